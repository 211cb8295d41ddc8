//! Going on with what an earlier run of the same job left.

use anyhow::{Result, ensure};

use super::Collected;

impl Collected {
    /// These statistics, as those of the job that `fresh` has none of yet: with its corpus, which may have grown, and its limit.
    ///
    /// # Errors
    ///
    /// Statistics of another job, with what differs.
    pub(super) fn resume(mut self, fresh: Self) -> Result<Self> {
        self.header.resumes(&fresh.header)?;
        ensure!(
            self.statistics.layout() == fresh.statistics.layout(),
            "pairs: found others"
        );
        ensure!(
            self.statistics.precision() == fresh.statistics.precision(),
            "precision: found another"
        );
        let capacity = |of: &Self| of.statistics.test().sample().capacity();
        ensure!(
            capacity(&self) == capacity(&fresh),
            "held-out rows: found {}, expected {}",
            capacity(&self),
            capacity(&fresh)
        );
        let (part, job) = (&mut self.header.parts[0], &fresh.header.parts[0]);
        part.corpus.clone_from(&job.corpus);
        part.limit = job.limit;
        Ok(self)
    }
}
