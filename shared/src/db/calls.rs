//! Calls and their participants.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::After;
use crate::call::{Call, CallState, Participant, ParticipantState, Standing};
use crate::clock::Timestamp;
use crate::id::{CallId, EdgeId, UserId};
use crate::recording::RecordingOptions;

struct CallRow {
    id: CallId,
    host_id: UserId,
    title: Option<String>,
    max_participants: i32,
    metadata: Value,
    record_options: Option<Json<RecordingOptions>>,
    state: CallState,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl From<CallRow> for Call {
    fn from(row: CallRow) -> Self {
        Self {
            id: row.id,
            host: row.host_id,
            title: row.title,
            max_participants: u32::try_from(row.max_participants).unwrap_or(0),
            metadata: row.metadata,
            record_options: row.record_options.map(|options| options.0),
            state: row.state,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

macro_rules! select_call {
    ($tail:literal $(, $arg:expr)* $(,)?) => {
        sqlx::query_as!(
            CallRow,
            r#"select id as "id: CallId", host_id as "host_id: UserId", title, max_participants, metadata,
                record_options as "record_options: Json<RecordingOptions>", state as "state: CallState",
                created_at, started_at, ended_at from call c "# + $tail,
            $($arg),*
        )
    };
}

/// What a caller gives to create a call.
#[derive(Debug)]
pub struct NewCall {
    /// Its id.
    pub id: CallId,
    /// Who creates it.
    pub host: UserId,
    /// A name for people.
    pub title: Option<String>,
    /// Who may come, beside the host.
    pub participants: Vec<UserId>,
    /// How many may be in it at once.
    pub max_participants: u32,
    /// Whatever the creator keeps with it.
    pub metadata: Value,
    /// Set when the call records by itself.
    pub record_options: Option<RecordingOptions>,
}

/// Creates a call. `None`: the id is taken.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut PgConnection, new: &NewCall, at: Timestamp) -> sqlx::Result<Option<()>> {
    let created = sqlx::query!(
        "insert into call (id, host_id, title, max_participants, metadata, record_options, state, created_at)
         values ($1, $2, $3, $4, $5, $6, 'created', $7) on conflict (id) do nothing",
        new.id.as_str(),
        new.host.as_str(),
        new.title,
        i32::try_from(new.max_participants).unwrap_or(i32::MAX),
        new.metadata,
        new.record_options.as_ref().map(Json) as Option<Json<&RecordingOptions>>,
        at,
    )
    .execute(&mut *tx)
    .await?;
    if created.rows_affected() == 0 {
        return Ok(None);
    }
    invite(tx, &new.id, &new.participants, at).await?;
    Ok(Some(()))
}

/// Finds a call.
///
/// # Errors
/// Those of the database.
pub async fn find(db: impl PgExecutor<'_>, id: &CallId) -> sqlx::Result<Option<Call>> {
    Ok(select_call!("where id = $1", id.as_str()).fetch_optional(db).await?.map(Into::into))
}

/// Finds a call and keeps others from changing it until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn lock(tx: &mut PgConnection, id: &CallId) -> sqlx::Result<Option<Call>> {
    Ok(select_call!("where id = $1 for update", id.as_str()).fetch_optional(tx).await?.map(Into::into))
}

/// The calls that a user hosts or takes part in, newest first; with `only`, that one alone.
///
/// # Errors
/// Those of the database.
pub async fn of_user(
    db: impl PgExecutor<'_>,
    user: &UserId,
    state: Option<CallState>,
    only: Option<&CallId>,
    after: Option<&After>,
    limit: i64,
) -> sqlx::Result<Vec<Call>> {
    let rows = select_call!(
        "where (host_id = $1 or exists (select from participant p where p.call_id = c.id and p.user_id = $1))
           and ($2::text is null or state = $2)
           and ($3::timestamptz is null or (created_at, id) < ($3, $4))
           and ($6::text is null or id = $6)
         order by created_at desc, id desc limit $5",
        user.as_str(),
        state as Option<CallState>,
        after.map(|after| after.at),
        after.map(|after| after.id.as_str()),
        limit,
        only.map(CallId::as_str),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// What may be changed of a call; `None` leaves it as it is.
#[derive(Debug, Default)]
pub struct CallChange {
    /// A name for people.
    pub title: Option<String>,
    /// The whole list of who may come.
    pub participants: Option<Vec<UserId>>,
    /// How many may be in it at once.
    pub max_participants: Option<u32>,
    /// Whatever the creator keeps with it.
    pub metadata: Option<Value>,
}

/// Changes a call that has not ended. People who were invited, never came and are no longer named lose their invitation.
/// `None`: it has ended or is unknown.
///
/// # Errors
/// Those of the database.
pub async fn update(
    tx: &mut PgConnection,
    id: &CallId,
    change: &CallChange,
    at: Timestamp,
) -> sqlx::Result<Option<()>> {
    let updated = sqlx::query!(
        "update call set title = coalesce($2, title), max_participants = coalesce($3, max_participants),
             metadata = coalesce($4, metadata)
         where id = $1 and state <> 'ended'",
        id.as_str(),
        change.title,
        change.max_participants.map(|max| i32::try_from(max).unwrap_or(i32::MAX)),
        change.metadata,
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() == 0 {
        return Ok(None);
    }
    if let Some(participants) = &change.participants {
        let named: Vec<String> = participants.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "delete from participant where call_id = $1 and state = 'invited' and user_id <> all($2)",
            id.as_str(),
            &named,
        )
        .execute(&mut *tx)
        .await?;
        invite(tx, id, participants, at).await?;
    }
    Ok(Some(()))
}

/// Notes that somebody came: the first one makes the call active. `false`: it was active already, or has ended.
///
/// # Errors
/// Those of the database.
pub async fn activate(tx: &mut PgConnection, id: &CallId, at: Timestamp) -> sqlx::Result<bool> {
    let updated = sqlx::query!(
        "update call set state = 'active', started_at = $2 where id = $1 and state = 'created'",
        id.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Ends a call. `false`: it had ended, or is unknown.
///
/// # Errors
/// Those of the database.
pub async fn end(tx: &mut PgConnection, id: &CallId, at: Timestamp) -> sqlx::Result<bool> {
    let updated = sqlx::query!(
        "update call set state = 'ended', ended_at = $2 where id = $1 and state <> 'ended'",
        id.as_str(),
        at,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update participant set state = 'left', left_at = $2 where call_id = $1 and state = 'joined'",
        id.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Notes that somebody is in a call that has not ended, invited or not. `false`: it has ended, or is unknown.
///
/// # Errors
/// Those of the database.
pub async fn joined(tx: &mut PgConnection, id: &CallId, user: &UserId, at: Timestamp) -> sqlx::Result<bool> {
    let joined = sqlx::query!(
        "insert into participant (call_id, user_id, state, invited, invited_at, joined_at)
         select id, $2, 'joined', false, $3, $3 from call where id = $1 and state <> 'ended'
         on conflict (call_id, user_id) do update set state = 'joined', joined_at = $3, left_at = null",
        id.as_str(),
        user.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(joined.rows_affected() == 1)
}

/// Notes that somebody is no longer in a call. `false`: they were not.
///
/// # Errors
/// Those of the database.
pub async fn left(tx: &mut PgConnection, id: &CallId, user: &UserId, at: Timestamp) -> sqlx::Result<bool> {
    let left = sqlx::query!(
        "update participant set state = 'left', left_at = $3
         where call_id = $1 and user_id = $2 and state = 'joined'",
        id.as_str(),
        user.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(left.rows_affected() == 1)
}

/// Whether a call is for named people; without any it is open to who knows its id.
///
/// # Errors
/// Those of the database.
pub async fn has_invitations(db: impl PgExecutor<'_>, id: &CallId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from participant where call_id = $1 and invited) as "invited!""#,
        id.as_str(),
    )
    .fetch_one(db)
    .await
}

/// Lets a call live on an edge: the first that is asked, or another once the holder has not been seen since `dead_before`.
/// Gives the URL of the holder when that is another. `None`: no such call.
///
/// # Errors
/// Those of the database.
pub async fn settle(
    db: impl PgExecutor<'_>,
    id: &CallId,
    edge: &EdgeId,
    dead_before: Timestamp,
) -> sqlx::Result<Option<Settled>> {
    let row = sqlx::query!(
        r#"with claimed as (
             update call c set edge_id = $2
             where id = $1 and (edge_id is null or edge_id = $2
               or not exists (select from edge e where e.id = c.edge_id and e.seen_at >= $3))
             returning id)
           select exists (select from claimed) as "ours!", e.url as "url?"
           from call c left join edge e on e.id = c.edge_id where c.id = $1"#,
        id.as_str(),
        edge.as_str(),
        dead_before,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| match row.url.filter(|_| !row.ours) {
        Some(url) => Settled::Elsewhere(url),
        None => Settled::Here,
    }))
}

/// The URL of the edge that an active call lives on, when that is another than the one that asks.
///
/// # Errors
/// Those of the database.
pub async fn elsewhere(db: impl PgExecutor<'_>, id: &CallId, edge: &EdgeId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select e.url from call c join edge e on e.id = c.edge_id
         where c.id = $1 and c.edge_id <> $2 and c.state = 'active'",
        id.as_str(),
        edge.as_str(),
    )
    .fetch_optional(db)
    .await
}

/// Calls that are active on an edge: after a restart nobody is in them until they come back.
///
/// # Errors
/// Those of the database.
pub async fn active_on(db: impl PgExecutor<'_>, edge: &EdgeId) -> sqlx::Result<Vec<CallId>> {
    sqlx::query_scalar!(
        r#"select id as "id: CallId" from call where edge_id = $1 and state = 'active'"#,
        edge.as_str(),
    )
    .fetch_all(db)
    .await
}

/// Where a call lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// On the edge that asked.
    Here,
    /// On another, which is reached at this URL.
    Elsewhere(String),
}

async fn invite(tx: &mut PgConnection, id: &CallId, users: &[UserId], at: Timestamp) -> sqlx::Result<()> {
    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "insert into participant (call_id, user_id, state, invited_at)
         select $1, user_id, 'invited', $3 from unnest($2::text[]) as user_id on conflict do nothing",
        id.as_str(),
        &users,
        at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The people of a call, in the order of their ids.
///
/// # Errors
/// Those of the database.
pub async fn participants(db: impl PgExecutor<'_>, id: &CallId) -> sqlx::Result<Vec<Participant>> {
    sqlx::query_as!(
        Participant,
        r#"select user_id as "user: UserId", state as "state: ParticipantState", joined_at, left_at
         from participant where call_id = $1 order by user_id"#,
        id.as_str(),
    )
    .fetch_all(db)
    .await
}

/// What a user is to a call. `None`: no such call.
///
/// # Errors
/// Those of the database.
pub async fn standing(db: impl PgExecutor<'_>, id: &CallId, user: &UserId) -> sqlx::Result<Option<Standing>> {
    let row = sqlx::query!(
        r#"select host_id = $2 as "host!",
            exists (select from participant p where p.call_id = c.id and p.user_id = $2) as "participant!"
         from call c where id = $1"#,
        id.as_str(),
        user.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| match (row.host, row.participant) {
        (true, _) => Standing::Host,
        (false, true) => Standing::Participant,
        (false, false) => Standing::Stranger,
    }))
}
