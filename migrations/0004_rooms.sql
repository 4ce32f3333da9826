-- A call lives on one edge: whoever comes later is sent there.

alter table call add column edge_id text references edge;
create index call_active_on on call (edge_id) where state = 'active';

-- Whether somebody was named by the host, or came to an open call: a call without anybody named is open to who knows its id.
alter table participant add column invited boolean not null default true;
