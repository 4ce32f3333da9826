-- Calls, who takes part in them, their recordings, and what was made of these.
-- States are text with a CHECK that says which facts each state has; an ELSE FALSE refuses a state nobody wrote a rule for.

create table edge (
    id text primary key,
    url text not null,
    version text not null,
    started_at timestamptz not null,
    seen_at timestamptz not null
);

create table call (
    id text primary key check (id ~ '^[A-Za-z0-9_.:@-]{1,128}$'),
    host_id text not null,
    title text,
    max_participants integer not null check (max_participants between 1 and 1000),
    metadata jsonb not null default '{}',
    record_options jsonb,
    state text not null,
    created_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz,
    constraint call_state_fits check (case state
        when 'created' then started_at is null and ended_at is null
        when 'active' then started_at is not null and ended_at is null
        when 'ended' then ended_at is not null
        else false end)
);
create index call_host on call (host_id, created_at desc, id desc);

create table participant (
    call_id text not null references call on delete cascade,
    user_id text not null check (user_id ~ '^[A-Za-z0-9_.:@-]{1,128}$'),
    state text not null,
    invited_at timestamptz not null,
    joined_at timestamptz,
    left_at timestamptz,
    primary key (call_id, user_id),
    constraint participant_state_fits check (case state
        when 'invited' then joined_at is null and left_at is null
        when 'joined' then joined_at is not null and left_at is null
        when 'left' then joined_at is not null and left_at is not null
        else false end)
);
create index participant_user on participant (user_id);

create table recording (
    id text primary key,
    call_id text not null references call,
    started_by text not null,
    state text not null,
    stage text,
    -- Fences a stage: whoever publishes its result must hold the token that its job was enqueued with.
    stage_token text,
    progress real not null default 0 check (progress between 0 and 1),
    options jsonb not null,
    started_at timestamptz not null,
    paused_at timestamptz,
    stopped_at timestamptz,
    sealed_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz,
    deleted_at timestamptz,
    -- When the sweeper may end what the state waits for. Final states have none.
    deadline_at timestamptz,
    expires_at timestamptz,
    capture_deleted_at timestamptz,
    format text,
    duration_ms bigint check (duration_ms >= 0),
    file_size bigint check (file_size >= 0),
    output_key text,
    storage_provider text,
    storage_bucket text,
    error_code text,
    error_detail text,
    constraint recording_state_fits check (case state
        when 'recording' then paused_at is null and stopped_at is null and deadline_at is not null
        when 'paused' then paused_at is not null and stopped_at is null and deadline_at is not null
        when 'stopping' then stopped_at is not null and sealed_at is null and deadline_at is not null
        when 'processing' then sealed_at is not null and stage is not null and stage_token is not null
            and completed_at is null and deadline_at is not null
        when 'completed' then completed_at is not null and output_key is not null and stage is null
            and deadline_at is null
        -- A failed recording keeps its stage and token, so that a re-queued job can take it up again.
        when 'failed' then failed_at is not null and error_code is not null and deadline_at is null
        when 'deleted' then deleted_at is not null and stage is null and deadline_at is null
        else false end),
    constraint recording_stage_known check (stage in ('mux', 'thumbnails', 'upload'))
);
create unique index recording_one_live_per_call on recording (call_id) where state in ('recording', 'paused');
create index recording_call on recording (call_id, started_at desc, id desc);
create index recording_deadline on recording (deadline_at) where deadline_at is not null;
create index recording_expiry on recording (expires_at) where state = 'completed';
create index recording_kept_capture on recording (completed_at)
    where capture_deleted_at is null and state = 'completed';

-- The edges that hold a share of a recording's capture; the last one to flush seals.
create table recording_edge (
    recording_id text not null references recording on delete cascade,
    edge_id text not null references edge,
    flushed_at timestamptz,
    primary key (recording_id, edge_id)
);
create index recording_edge_unflushed on recording_edge (edge_id) where flushed_at is null;

create table track (
    id text primary key,
    recording_id text not null references recording on delete cascade,
    participant_id text not null,
    source text not null check (source in ('client', 'server')),
    kind text not null check (kind in ('audio', 'video', 'screen')),
    mime_type text,
    codec text,
    started_at timestamptz not null,
    duration_ms bigint check (duration_ms >= 0),
    chunks bigint not null default 0 check (chunks >= 0),
    bytes bigint not null default 0 check (bytes >= 0),
    -- [[first, last], …] of the sequences held, ascending; and the last sequence that the client declared.
    received jsonb not null default '[]',
    last_sequence bigint,
    -- [{from, to, reason}] in milliseconds of the track; null until the capture has been assembled.
    gaps jsonb,
    unique (recording_id, participant_id, source, kind)
);

create table artifact (
    id text primary key,
    recording_id text not null references recording on delete cascade,
    kind text not null check (kind in ('recording', 'participant', 'thumbnail')),
    participant_id text,
    ordinal integer not null default 0,
    content_type text not null,
    size bigint not null check (size >= 0),
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    duration_ms bigint,
    width integer,
    height integer,
    state text not null,
    -- Where the file waits in the spool (relative to the recording's folder there), and where it is kept in the end.
    staged_path text,
    storage_key text not null,
    created_at timestamptz not null,
    stored_at timestamptz,
    constraint artifact_state_fits check (case state
        when 'staged' then staged_path is not null and stored_at is null
        when 'stored' then stored_at is not null
        else false end),
    unique (recording_id, storage_key)
);

create table event (
    id bigint generated always as identity primary key,
    type text not null,
    call_id text not null,
    recording_id text,
    data jsonb not null default '{}',
    at timestamptz not null
);
create index event_recording on event (recording_id, id) where recording_id is not null;
create index event_call on event (call_id, id);
