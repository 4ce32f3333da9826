//! What every provider of storage does alike, tested against real servers. The cases are written once (`cases`, `resume`);
//! [`providers`] is the table of who is tried. `worker doctor` is tried on the same servers.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod deleted;
mod doctor;
mod files;
#[cfg(test)]
mod google;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod options;
mod providers;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod staged;
#[cfg(test)]
mod vercel;
mod whole;

/// One test per provider and case: each has a server of its own.
macro_rules! conform {
    ($($provider:ident),+ $(,)?) => { $(
        mod $provider {
            use crate::{cases, providers, resume};

            #[tokio::test]
            async fn a_small_file_arrives_with_what_it_is() { cases::small(&providers::$provider().await).await; }
            #[tokio::test]
            async fn an_empty_file_arrives() { cases::empty(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_file_of_odd_size_arrives_in_parts() { cases::odd(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_gibibyte_takes_little_memory() { cases::large(&providers::$provider().await).await; }
            #[tokio::test]
            async fn keys_may_be_long_and_of_any_script() { cases::keys(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_key_is_overwritten() { cases::overwrite(&providers::$provider().await).await; }
            #[tokio::test]
            async fn what_is_missing_is_told_apart() { cases::missing(&providers::$provider().await).await; }
            #[tokio::test]
            async fn lists_go_over_several_pages() { cases::list(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_part_of_an_object_is_read() { cases::range(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_temporary_url_opens_and_later_does_not() { cases::link(&providers::$provider().await).await; }
            #[tokio::test]
            async fn damage_is_found() { cases::damage(&providers::$provider().await).await; }
            #[tokio::test]
            async fn wrong_credentials_are_told_apart() { cases::credentials(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_wrong_bucket_is_told_apart() { cases::bucket(&providers::$provider().await).await; }
            #[tokio::test]
            async fn an_upload_goes_on_where_it_stopped() { resume::goes_on(&providers::$provider().await).await; }
            #[tokio::test]
            async fn a_file_that_changed_is_begun_anew() { resume::changed(&providers::$provider().await).await; }
            #[tokio::test]
            async fn what_nobody_resumes_is_given_up() { resume::given_up(&providers::$provider().await).await; }
        }
    )+ };
}

conform!(local, s3, s3_without_checksums, gcs, gcs_emulator, vercel_blob, vercel_blob_in_trouble);
