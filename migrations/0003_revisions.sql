-- A recording is processed again when an edge that was given up comes back with its share of the capture. Each processing is a
-- revision: its files have names of their own, so that those of the revision before stay whole until the new ones are complete.

alter table recording
    add column revision integer not null default 0 check (revision >= 0),
    -- The revision whose files are shown and served: the last that was completed. Null while none was.
    add column output_revision integer check (output_revision between 0 and revision);
update recording set output_revision = 0 where state = 'completed';

alter table artifact add column revision integer not null default 0 check (revision >= 0);
