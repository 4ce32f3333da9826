//! The database.

pub mod jobs;

/// The migrations of this product; apalis' own run before them.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
