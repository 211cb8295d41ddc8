//! Continues the statistics of an earlier run of the same job.

use anyhow::{Result, ensure};

use super::collected::Collected;

impl Collected {
    /// These statistics with the corpus of `fresh`, which may have grown, and its limit, to be continued by the job of
    /// `fresh`.
    ///
    /// # Errors
    ///
    /// Statistics of another job; names what differs.
    pub(super) fn resume(mut self, fresh: Self) -> Result<Self> {
        self.header.resumes(&fresh.header)?;
        ensure!(
            self.statistics.layout() == fresh.statistics.layout(),
            "pairs: found other layer pairs, expected those of the job"
        );
        ensure!(
            self.statistics.precision() == fresh.statistics.precision(),
            "precision: found another precision, expected that of the job"
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
