//! Group commit: purchases that wait for the same row are carried by one statement.
//!
//! A hot sale is one row, and whoever gets it keeps it until its commit is on the disk: with a commit for each, buyers wait for the disk one after the other.
//! Here the row is had once for all who wait for it.
//! The first of a line starts its leader, a task of this room that belongs to no caller; the others only wait for it.
//! The leader takes those that wait, has the database decide them in one commit in the order of their arrival, answers each, and takes those that came meanwhile; it ends when nobody waits.
//! So a batch is what came during the one before, and no timer holds a buyer up until it is full.
//!
//! `Backends::purchase` calls it for strategies, for one request at a time.
//! What settles does not come here: it is a batch already, and its refusals are final.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::database::{Database, Denial};
use super::sold_out::SoldOut;
use super::{BackendError, System};
use crate::domain::{self, Order, Refusal, Rejection, Request, RevisionId, SaleId};

/// Requests that one commit carries at most: more of them hold the row for longer and hardly cost less each.
const BATCH_MAX: usize = 256;
/// Requests that may wait in one line; who comes then is told to come back.
const WAITING_MAX: usize = 1_024;
/// How often a request joins a line: once more where the first leader came to its end without an answer.
const LEADERS_MAX: u32 = 2;

/// What the database says of a request.
type Decided = Result<Order, Denial>;
/// What its caller hears.
type Answer = Result<Decided, BackendError>;

/// The lines of those that wait.
pub struct GroupCommit(Arc<Lines>);

struct Lines {
    database: Arc<Database>,
    sold_out: Arc<SoldOut>,
    /// Each line has its leader, for as long as it stands here.
    waiting: Mutex<HashMap<Line, VecDeque<Waiting>>>,
}

/// Who waits for the same: what is contended for, and the revision that places the orders, for which a batch has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    contended: Option<SaleId>,
    settling: RevisionId,
}

struct Waiting {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

impl GroupCommit {
    /// No lines yet.
    pub fn new(database: Arc<Database>, sold_out: Arc<SoldOut>) -> Self {
        Self(Arc::new(Lines {
            database,
            sold_out,
            waiting: Mutex::default(),
        }))
    }

    /// Places the order for a request in a commit that it may share; must be awaited to its end.
    ///
    /// None where `leave` came true while the request still waited: it was taken out, and nothing was done.
    /// Once it is sent it is answered, whoever leaves.
    /// Fails with `Full` where too many wait, and otherwise as `Database::purchase` does; a batch that the database lost sight of is asked for once more, which tells what became of it.
    pub async fn purchase(
        &self,
        request: &Request,
        settling: &RevisionId,
        leave: impl Future<Output = ()>,
    ) -> Result<Option<Decided>, BackendError> {
        let line = Line {
            contended: self.0.database.contended(request.sale_id),
            settling: settling.clone(),
        };
        let mut leave = pin!(leave);
        let mut left = false;
        for _ in 0..LEADERS_MAX {
            let mut answer = self.join(&line, request)?;
            loop {
                tokio::select! {
                    biased;
                    answered = &mut answer => match answered {
                        Ok(decided) => return decided.map(Some),
                        // The leader is gone: whether the request was sent is told by asking again, which has no second effect.
                        Err(_) => break,
                    },
                    () = &mut leave, if !left => {
                        left = true;
                        if self.0.withdraw(&line, request) {
                            return Ok(None);
                        }
                    }
                }
            }
        }
        Err(BackendError::unavailable(
            System::Database,
            "purchase",
            "its leader ended without an answer",
        ))
    }

    /// Puts a request at the end of its line, and starts a leader where there is none.
    fn join(
        &self,
        line: &Line,
        request: &Request,
    ) -> Result<oneshot::Receiver<Answer>, BackendError> {
        let (answer, answered) = oneshot::channel();
        let newcomer = Waiting {
            request: request.clone(),
            answer,
        };
        let mut lines = self.0.lines();
        if let Some(waiting) = lines.get_mut(line) {
            if waiting.len() >= WAITING_MAX {
                return Err(BackendError::Full {
                    what: "the line of purchases",
                });
            }
            waiting.push_back(newcomer);
        } else {
            lines.insert(line.clone(), VecDeque::from([newcomer]));
            drop(lines);
            let leader = Leader {
                lines: Arc::clone(&self.0),
                line: line.clone(),
                sent: Vec::new(),
                ended: false,
            };
            tokio::spawn(leader.lead());
        }
        Ok(answered)
    }
}

/// A line's leader.
///
/// Dropped before the line has ended, it takes the line away, and those whose requests waited or were sent are let go, to join another.
struct Leader {
    lines: Arc<Lines>,
    line: Line,
    /// Who waits for the batch that was sent; let go after the line is taken away, so that nobody joins it again.
    sent: Vec<oneshot::Sender<Answer>>,
    ended: bool,
}

impl Leader {
    /// Has the line decided, batch after batch, until nobody waits in it.
    async fn lead(mut self) {
        while let Some(requests) = self.take() {
            let database = &self.lines.database;
            let decided = database.purchase(&requests, &self.line.settling, false, domain::now());
            match decided.await {
                Ok(decided) => {
                    let sold_out = sold_out(&requests, &decided);
                    for (answer, decided) in self.sent.drain(..).zip(decided) {
                        // Whoever is not there any more can ask the database.
                        let _ = answer.send(Ok(decided));
                    }
                    self.remember(sold_out).await;
                }
                Err(error) => {
                    for answer in self.sent.drain(..) {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// The next batch; where nobody waits the line ends, in the same moment, so that nobody joins one without a leader.
    fn take(&mut self) -> Option<Vec<Request>> {
        let mut lines = self.lines.lines();
        let waiting = lines.get_mut(&self.line)?;
        if waiting.is_empty() {
            lines.remove(&self.line);
            self.ended = true;
            return None;
        }
        let batch = waiting.drain(..waiting.len().min(BATCH_MAX));
        let (requests, sent) = batch.map(|it| (it.request, it.answer)).unzip();
        self.sent = sent;
        Some(requests)
    }

    /// Reads the sales that may have no piece left, so that the host need not ask about them again.
    async fn remember(&self, sales: BTreeSet<SaleId>) {
        for sale in sales {
            if self.lines.sold_out.get(sale).is_some() {
                continue;
            }
            // Where it cannot be read, the next who is refused has it read.
            if let Ok(Some(sale)) = self.lines.database.sale(sale).await {
                self.lines.sold_out.note(&sale);
            }
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.ended {
            self.lines.lines().remove(&self.line);
        }
    }
}

impl Lines {
    fn lines(&self) -> MutexGuard<'_, HashMap<Line, VecDeque<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request out of its line, if it still waits there.
    fn withdraw(&self, line: &Line, request: &Request) -> bool {
        let mut lines = self.lines();
        let Some(waiting) = lines.get_mut(line) else {
            return false;
        };
        let place = waiting.iter().position(|it| it.request.id == request.id);
        place.and_then(|place| waiting.remove(place)).is_some()
    }
}

/// The sales of which a batch took the last piece, or found too few.
fn sold_out(requests: &[Request], decided: &[Decided]) -> BTreeSet<SaleId> {
    let is_last = |decided: &Decided| match decided {
        Ok(order) => order.remaining == 0,
        Err(denial) => *denial == Denial::Refused(Refusal::Rejected(Rejection::SoldOut)),
    };
    let decided = requests.iter().zip(decided);
    let last = decided.filter(|(_, decided)| is_last(decided));
    last.map(|(request, _)| request.sale_id).collect()
}
