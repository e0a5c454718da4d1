//! Jobs and CronJobs. (<https://kubernetes.io/docs/concepts/workloads/controllers/job/>)

mod cronjob;
mod job;
mod policies;
pub mod schedule;
#[cfg(test)]
mod tests;

pub(super) use cronjob::CRON_JOB;
pub(super) use job::JOB;
