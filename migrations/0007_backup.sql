-- A second storage that takes files while the first cannot, and from which they are moved to the first later.

alter table artifact
    -- What the second storage has of this file. Null: nothing. 'spare': perhaps a copy that nobody needs, as the file is on its way
    -- there or has been moved; it is to be deleted. 'holds': the copy that was proven, and that is read.
    add column backup text,
    -- What a worker needs to go on with an upload there; `upload` is that of the first storage.
    add column backup_upload jsonb,
    add constraint artifact_backup_fits check (case
        when backup is null or backup = 'spare' then true
        when backup = 'holds' then state = 'stored'
        else false end);
create index artifact_in_backup on artifact (created_at) where backup is not null;

-- Since when the first storage has taken no file: one row while it does not, none while it does.
create table storage_outage (
    destination text primary key check (destination = 'main'),
    since timestamptz not null,
    -- The stable code of what it said first.
    reason text not null
);
