-- Where each file was put, so that a storage that is named anew later is not taken for the one that has it.

alter table artifact
    -- Provider and bucket of the first storage when the file was put there, as in `s3:recordings`. Null: the backup alone has it, it is
    -- not stored yet, or it was stored before this was kept.
    add column place text;
