-- What the job queue adds to apalis' tables: the history of attempts, the rules of backoff and state, and wake-ups.
-- Runs after apalis' own migrations, which create apalis.jobs and apalis.workers.

-- One row for every time a job was started. The open row (ended_at is null) is the fencing token of the worker that runs the
-- job: whoever closes it, by finishing or by rescuing, wins; every later write with the same token changes nothing.
create table job_attempts (
    id                  bigint generated always as identity primary key,
    job_id              text not null references apalis.jobs (id) on delete cascade,
    attempt             integer not null,
    worker              text not null,
    started_at          timestamptz not null default now(),
    ended_at            timestamptz,
    outcome             text,
    error               text,
    progress_percent    smallint,
    cancel_requested_at timestamptz,
    constraint job_attempt_is_counted_from_one check (attempt >= 1),
    constraint job_attempt_outcome_is_known check (outcome in ('done', 'failed', 'gave-up', 'cancelled', 'returned', 'lost')),
    constraint job_attempt_ends_with_outcome check ((ended_at is null) = (outcome is null)),
    constraint job_attempt_progress_is_percent check (progress_percent between 0 and 100)
);
create index job_attempts_by_job on job_attempts (job_id, id);
create unique index job_attempts_open on job_attempts (job_id) where ended_at is null;
create index job_attempts_open_by_worker on job_attempts (worker) where ended_at is null;

-- Done jobs are kept for days and would be most of the table; the rescue and the gauges must not read them.
create index callreel_jobs_running on apalis.jobs (lock_by) where status in ('Running', 'Queued');
create index callreel_jobs_unfinished on apalis.jobs (job_type, status) where status <> 'Done';

-- How long a job waits after its nth failed attempt: 2 s, 4 s, 8 s … 10 min, each between half of it and all of it, so that
-- jobs that failed together do not come back together.
create function job_backoff(attempts integer) returns interval language sql volatile as $$
    select least(interval '10 minutes', interval '1 second' * power(2, least(attempts, 10))) * (0.5 + random() / 2)
$$;

-- The words of this product for apalis' statuses.
create function job_state(job apalis.jobs) returns text language sql stable as $$
    select case
        when job.status = 'Done' then 'done'
        when job.status in ('Running', 'Queued') then 'running'
        when job.status = 'Killed' and job.last_result ? 'Cancelled' then 'cancelled'
        when job.status = 'Killed' or (job.status = 'Failed' and job.attempts >= job.max_attempts) then 'dead'
        when job.status = 'Failed' then 'failed'
        when job.run_at > now() then 'scheduled'
        else 'pending'
    end
$$;

-- A job's payload, null when it is not JSON: one bad row must not break a list of jobs.
create function job_payload(job apalis.jobs) returns jsonb language plpgsql stable as $$
begin
    return convert_from(job.job, 'UTF8')::jsonb;
exception when others then
    return null;
end
$$;

-- apalis notifies on insert; these rows become runnable by an update: requeued, given back, rescued.
create function notify_runnable_job() returns trigger language plpgsql as $$
begin
    perform pg_notify('callreel_job_runnable', new.job_type);
    return null;
end
$$;
create trigger callreel_notify_runnable after update of status on apalis.jobs
    for each row when (new.status = 'Pending' and old.status <> 'Pending')
    execute function notify_runnable_job();

-- A running job is cancelled by a mark on its open attempt; the notification makes its worker look at once.
create function notify_cancelled_attempt() returns trigger language plpgsql as $$
begin
    perform pg_notify('callreel_job_cancel', new.id::text);
    return null;
end
$$;
create trigger callreel_notify_cancel after update of cancel_requested_at on job_attempts
    for each row when (new.cancel_requested_at is not null and old.cancel_requested_at is null)
    execute function notify_cancelled_attempt();
