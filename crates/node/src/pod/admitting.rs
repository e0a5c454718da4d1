//! A pod that is new to this agent: to be taken in, to be refused, or at its end already.

use std::error::Error;

use knarr_cri::CriError;

use super::{
    admit::REJECTED,
    resize::Allocation,
    status::Verdict,
    worker::{Next, State, Worker},
};

impl Worker {
    /// Takes the pod in, unless its time is over already or the node has no room for it.
    pub(super) async fn admitting(&mut self) -> Result<Next, CriError> {
        self.look().await?;
        self.adopt_health();
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.over = true;
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        // What an earlier agent left of pods that are no more is ended, and holds no room: the scheduler has given it away.
        if self.gone || self.deleted() && self.observed.running().next().is_none() {
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        self.recall_allocation().await;
        let runs_already = !self.observed.is_empty();
        let answer = self.ctx.with_offer(|offer| self.ctx.admitted().admit(&self.pod, offer, runs_already));
        let answer = match answer {
            Ok(()) if !runs_already => self.allocate().await.map_err(|error| unexpected(&*error)),
            answer => answer,
        };
        match answer {
            Ok(()) => {
                self.keep_allocation().await;
                self.state = State::Running;
            }
            Err(verdict) => {
                self.ctx.admitted().release(&self.uid);
                self.give_back().await;
                let message = verdict.cause().to_owned();
                self.ctx.warning(&self.pod, &verdict.reason, message);
                self.verdict = Some(verdict);
                self.over = true;
                self.state = State::Ended;
                self.publish();
            }
        }
        Ok(Next::Again)
    }

    /// What is given out piece by piece.
    async fn allocate(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.ctx.cpus.allocate(&self.pod).await?;
        Ok(self.ctx.devices.allocate(&self.pod).await?)
    }

    pub(super) async fn give_back(&self) {
        self.ctx.devices.release(&self.uid).await;
        self.ctx.cpus.release(&self.uid).await;
    }

    /// What an earlier agent promised the pod counts, whatever its spec wishes for by now.
    async fn recall_allocation(&mut self) {
        match Allocation::load(self.volumes.dir()).await {
            Ok(known) => self.allocated = known,
            Err(error) => tracing::warn!(pod = self.uid, %error, "what the pod was promised cannot be read"),
        }
        self.adopt_allocation();
    }

    /// A pod gets what it was taken in with.
    async fn keep_allocation(&mut self) {
        if self.allocated.is_some() {
            return;
        }
        let promised = Allocation::of(&self.pod);
        if let Err(error) = promised.save(self.volumes.dir()).await {
            tracing::warn!(pod = self.uid, %error, "what the pod was promised cannot be written down");
        }
        self.allocated = Some(promised);
    }

    /// A restarted agent believes what the API says of a run's probes until they answer anew: a ready pod must
    /// not drop out of its services because its node was upgraded.
    fn adopt_health(&mut self) {
        let Some(status) = &self.pod.status else { return };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for known in lists.into_iter().flatten().flatten() {
            let Some(run) = self.observed.newest(&known.name).filter(|run| run.running()) else { continue };
            let same = known.container_id.as_deref().is_some_and(|id| id.ends_with(&run.id));
            if same {
                let health = self.tracks.entry(known.name.clone()).or_default().health_mut(&run.id);
                health.startup = known.started.filter(|started| *started);
                health.readiness = Some(known.ready);
            }
        }
    }
}

/// What no scheduler could have foreseen, in upstream's words.
fn unexpected(why: &dyn Error) -> Verdict {
    let message = format!("{REJECTED}Allocate failed due to {why}, which is unexpected");
    Verdict { reason: "UnexpectedAdmissionError".to_owned(), message }
}
