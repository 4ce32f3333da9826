-- The pauses of a recording, which its files leave out. The captures' logs tell of them, too; but not those of browsers.
create table recording_pause (
    recording_id text not null references recording on delete cascade,
    paused_at timestamptz not null,
    -- None: it was stopped while it was paused, or still is.
    resumed_at timestamptz,
    primary key (recording_id, paused_at)
);

-- How often a recording was paused or went on: whoever reads its state twice knows which reading is newer.
alter table recording add column pause_turns integer not null default 0;
