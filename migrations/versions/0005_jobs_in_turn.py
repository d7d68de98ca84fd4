"""Jobs in turn: whose share a job is of, and a fetch that serves one share of a lane after the other; a bot's old tokens"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A retry that is due joins its share's line again: the fetch looks at nothing that is not ready, however much waits.
# Of each share only the first fifty jobs are looked at: all of them may wait for one chat that is being served.
FETCH = """
create function fetch_in_turn(lanes text[], served text[], passed text[], worker bigint)
returns procrastinate_jobs language plpgsql as $$
declare
  found_job procrastinate_jobs;
  lane text;
  next_share text;
  last_share text;
begin
  update procrastinate_jobs set scheduled_at = null where id in (
    select id from procrastinate_jobs where status = 'todo' and scheduled_at <= now()
    order by scheduled_at limit 20 for update skip locked);
  for i in 1 .. cardinality(lanes) loop
    lane := lanes[i];
    for part in 1 .. 2 loop  -- beyond the share served last, then from the first share up to it
      last_share := case part when 1 then served[i] else '' end;
      loop
        select share into next_share from procrastinate_jobs
        where queue_name = lane and status = 'todo' and scheduled_at is null and share > last_share
        order by share limit 1;
        exit when not found or part = 2 and next_share > served[i];
        last_share := next_share;
        continue when lane || ' ' || next_share = any (passed);
        with first as materialized (
          select id from procrastinate_jobs
          where queue_name = lane and status = 'todo' and scheduled_at is null and share = next_share
          order by id limit 50)
        update procrastinate_jobs set status = 'doing', worker_id = worker where id = (
          select job.id from first join procrastinate_jobs job on job.id = first.id
          where job.status = 'todo' and (job.lock is null
            or not exists (select from procrastinate_jobs other where other.lock = job.lock and other.status = 'doing')
            and not exists (select from procrastinate_jobs other where other.lock = job.lock and other.status = 'todo'
              and other.priority = job.priority and other.id < job.id))
          order by job.id limit 1 for update of job skip locked)
        returning * into found_job;
        if found then return found_job; end if;
      end loop;
    end loop;
  end loop;
  return null;
end $$
"""


def upgrade() -> None:
    op.execute("alter table procrastinate_jobs add column share text collate \"C\" not null default 'any'")
    op.execute("alter table timer add column share text not null default 'any'")
    op.execute("alter table bot add column old_tokens_sealed bytea")
    op.execute(
        "create index jobs_in_turn on procrastinate_jobs (queue_name, share, id)"
        " where status = 'todo' and scheduled_at is null"
    )
    op.execute(
        "create index jobs_retried on procrastinate_jobs (scheduled_at)"
        " where status = 'todo' and scheduled_at is not null"
    )
    op.execute(FETCH)


def downgrade() -> None:
    op.execute("drop function fetch_in_turn(text[], text[], text[], bigint)")
    op.execute("drop index jobs_in_turn, jobs_retried")
    op.execute("alter table bot drop column old_tokens_sealed")
    op.execute("alter table timer drop column share")
    op.execute("alter table procrastinate_jobs drop column share")
