-- What a worker needs to go on with the upload of an artifact that another one has begun, as the provider of storage tells it.
-- Noted before the first byte is sent, forgotten when the file is stored. It may let its holder write to the object.
alter table artifact add column upload jsonb;
