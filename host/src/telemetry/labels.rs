//! The closed sets that label values come from.
//!
//! Nothing that a guest, a client or an error says becomes a label: it becomes one of these.

/// Declares an enum whose cases are the values of a label.
macro_rules! label_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$case_doc])* $case,)+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$case,)+];

            /// The value as it stands in the metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$case => $text,)+ }
            }
        }
    };
}

label_set! {
    /// What a call ended in.
    Outcome {
        /// The order is committed.
        Completed = "completed",
        /// The request is in the log.
        Accepted = "accepted",
        /// A business no.
        Rejected = "rejected",
        /// The strategy or a backend broke.
        Failed = "failed",
        /// The guest trapped.
        Trapped = "trapped",
        /// The call's deadline or a hold bound passed.
        TimedOut = "timed_out",
        /// The guest wanted more memory than it may have.
        OutOfMemory = "out_of_memory",
        /// There was no room to run the call.
        Overloaded = "overloaded",
        /// The client went away before anything was decided.
        Cancelled = "cancelled",
    }
}

label_set! {
    /// Why a call broke, in the style of the metrics that it continues.
    ErrorKind {
        /// A Redis lock was not had in time.
        LockAcquisition = "LockAcquisitionException",
        /// A Redis lock was lost to a later holder, or held longer than its bound.
        LockLost = "LockLostException",
        /// A row, or the one writer, was not had in time.
        RowLock = "RowLockTimeoutException",
        /// The database failed.
        Database = "DatabaseException",
        /// Redis failed.
        Redis = "RedisException",
        /// The log failed.
        Kafka = "KafkaException",
        /// The queue is full.
        QueueFull = "QueueFullException",
        /// A deadline passed.
        Deadline = "DeadlineExceededException",
        /// The guest trapped.
        Trap = "TrapException",
        /// The guest wanted too much memory.
        Memory = "OutOfMemoryException",
        /// The guest called the host too often.
        Budget = "BudgetExceededException",
        /// There was no room to run the call.
        Overload = "OverloadException",
        /// The client went away.
        Cancelled = "CancelledException",
        /// The strategy answered what is not so, or gave up on its own.
        Strategy = "StrategyException",
    }
}

label_set! {
    /// Why a purchase was refused.
    Reason {
        /// Fewer pieces left than asked for.
        SoldOut = "sold_out",
        /// Outside the window.
        NotOpen = "not_open",
        /// Over the limit per user.
        LimitExceeded = "limit_exceeded",
        /// No such sale.
        NotFound = "not_found",
        /// A request or key that another call had decided meanwhile.
        Duplicate = "duplicate",
        /// A no of the strategy's own.
        Other = "other",
    }
}

label_set! {
    /// What became of a purchase when its final state was committed.
    PurchaseResult {
        /// An order.
        Success = "success",
        /// A business no.
        Rejected = "rejected",
        /// An accepted request that the strategy could not decide.
        Failed = "failed",
    }
}

label_set! {
    /// What a change of the revisions of a version came to.
    SwapResult {
        /// Another revision became live.
        Swapped = "swapped",
        /// A candidate got its share.
        CanaryBegun = "canary_begun",
        /// The candidate became live.
        Promoted = "promoted",
        /// Operators took the candidate away.
        Aborted = "aborted",
        /// Operators went back to an earlier revision.
        RolledBack = "rolled_back",
        /// The host took the candidate away, or went back, by itself.
        AutoRolledBack = "auto_rolled_back",
        /// A component was refused.
        Refused = "refused",
        /// The host does not run what is wanted.
        Failed = "failed",
    }
}

label_set! {
    /// What a call of a revision on trial ended in.
    TrialOutcome {
        /// As it should: an order, a ticket, or a business no.
        Good = "good",
        /// The strategy failed.
        Failed = "failed",
        /// A backend or a lock kept it from its end.
        Hindered = "hindered",
        /// The guest trapped, or wanted too much memory.
        Trapped = "trapped",
        /// A deadline or a hold bound passed.
        TimedOut = "timed_out",
    }
}

label_set! {
    /// Why a record went to the dead letters.
    DeadLetter {
        /// The bytes are no request.
        Malformed = "malformed",
        /// A later host wrote it, in a shape that this one does not know.
        UnknownSchema = "unknown_schema",
        /// No strategy of its version is loaded.
        UnknownVersion = "unknown_version",
        /// The strategy failed at it again and again.
        StrategyFailed = "strategy_failed",
    }
}

label_set! {
    /// How a host call ended.
    HostOutcome {
        /// It was done.
        Ok = "ok",
        /// A business no.
        Rejected = "rejected",
        /// It failed.
        Failed = "failed",
    }
}

label_set! {
    /// The bounds whose head-room is shown.
    LimitName {
        /// Time of a call against its deadline.
        CallDeadline = "call_deadline",
        /// Linear memory of a call.
        Memory = "memory",
        /// Host functions used by a call.
        HostCalls = "host_calls",
        /// Calls in flight.
        CallsInFlight = "calls_in_flight",
        /// Time of an open transaction.
        TransactionHold = "transaction_hold",
        /// Time from the grant of a lock to the commit under it.
        LockHold = "lock_hold",
    }
}

label_set! {
    /// What two stores tell differently.
    Drift {
        /// Pieces by which a sale's stock differs from its orders.
        Stock = "stock",
        /// Sales whose cached hint is below what the database has left.
        Cache = "cache",
        /// Requests that the log is settled past and that have no decision.
        Queue = "queue",
        /// Requests with two decisions, or an order without one.
        Results = "results",
    }
}

/// Declares the host functions with the capability that each belongs to.
macro_rules! functions {
    ($($(#[$doc:meta])* $case:ident = $capability:literal $function:literal,)+) => {
        /// The host functions that a strategy may call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Function { $($(#[$doc])* $case,)+ }

        impl Function {
            /// Every function, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$case,)+];

            /// The capability and the function as they stand in the metrics.
            pub const fn labels(self) -> (&'static str, &'static str) {
                match self { $(Self::$case => ($capability, $function),)+ }
            }
        }
    };
}

functions! {
    /// `db.find-sale`
    FindSale = "db" "find-sale",
    /// `db.purchase`
    Purchase = "db" "purchase",
    /// `db.transaction.lock-sale`
    LockSale = "db" "transaction.lock-sale",
    /// `db.transaction.place-order`
    PlaceOrder = "db" "transaction.place-order",
    /// `db.transaction.commit`
    Commit = "db" "transaction.commit",
    /// `db.transaction.place-and-commit`
    PlaceAndCommit = "db" "transaction.place-and-commit",
    /// A transaction that is dropped before its commit.
    Rollback = "db" "transaction.drop",
    /// `redis.get`
    Get = "redis" "get",
    /// `redis.set`
    Set = "redis" "set",
    /// `redis.delete`
    Delete = "redis" "delete",
    /// `redis.add`
    Add = "redis" "add",
    /// `redis.take`
    Take = "redis" "take",
    /// `redis.lock.acquire`
    LockAcquire = "redis" "lock.acquire",
    /// `redis.lock.release`, and a lock that is dropped.
    LockRelease = "redis" "lock.release",
    /// `kafka.submit`
    Submit = "kafka" "submit",
    /// `kafka.publish`
    Publish = "kafka" "publish",
}

/// Open sales that have series of their own; the rest are summed as `other`.
pub const SALES_SHOWN: usize = 50;
/// Partitions of the requests' topic that are reckoned with: its operator makes them, nobody else can add one.
const PARTITIONS_MAX: usize = 1_000;
/// The public routes, and `UNKNOWN`.
const ROUTES_MAX: usize = 16;
/// The codes of answers, problems and hang-ups.
const STATUSES_MAX: usize = 24;

/// Declares the labels with their names and with how many values each has.
macro_rules! labels {
    ($versions:ident; $($(#[$doc:meta])* $case:ident = $name:literal $values:expr,)+) => {
        /// The labels of the catalogue; `application`, which every series has, has one value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Label { $($(#[$doc])* $case,)+ }

        impl Label {
            /// The label as it stands in the metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$case => $name,)+ }
            }

            /// How many values it has at most beside one set of the other labels, in a host that has so many versions.
            pub const fn values_max(self, $versions: usize) -> usize {
                match self { $(Self::$case => $values,)+ }
            }
        }
    };
}

labels! { versions;
    /// The strategy's version.
    Version = "version" versions,
    /// Each version has one.
    Operation = "operation" 1,
    /// `ErrorKind`
    Error = "error" ErrorKind::ALL.len(),
    /// `Reason`, or `none`.
    Reason = "reason" Reason::ALL.len() + 1,
    /// `DeadLetter`
    DeadLetter = "reason" DeadLetter::ALL.len(),
    /// `Outcome`
    Outcome = "outcome" Outcome::ALL.len(),
    /// `HostOutcome`
    HostOutcome = "outcome" HostOutcome::ALL.len(),
    /// `PurchaseResult`
    Result = "result" PurchaseResult::ALL.len(),
    /// `hit` or `miss`.
    Found = "result" 2,
    /// Each function belongs to one.
    Capability = "capability" 1,
    /// `Function`
    Function = "function" Function::ALL.len(),
    /// `LimitName`
    Limit = "limit" LimitName::ALL.len(),
    /// `live`, and `candidate` or `previous`.
    Slot = "slot" 2,
    /// `SwapResult`
    Swap = "result" SwapResult::ALL.len(),
    /// `live` or `candidate`.
    Track = "track" 2,
    /// `TrialOutcome`
    TrialOutcome = "outcome" TrialOutcome::ALL.len(),
    /// Each slot of a version has one.
    Revision = "revision" 1,
    /// The sales that are shown, and `other`.
    Sale = "sale" SALES_SHOWN + 1,
    /// Each sale has one.
    Product = "product" 1,
    /// `Drift`
    Drift = "kind" Drift::ALL.len(),
    /// The three systems.
    Backend = "backend" 3,
    /// There is one.
    Group = "group" 1,
    /// There is one.
    Topic = "topic" 1,
    /// Those of the requests.
    Partition = "partition" PARTITIONS_MAX,
    /// `producer` or `consumer`.
    Client = "client" 2,
    /// `queue`, `send` or `round_trip`.
    Stage = "stage" 3,
    /// `avg` or `max`.
    Statistic = "statistic" 2,
    /// `GET`, `POST`, `HEAD` or `OTHER`.
    Method = "method" 4,
    /// The route's template.
    Uri = "uri" ROUTES_MAX,
    /// The status of an HTTP answer.
    Status = "status" STATUSES_MAX,
    /// Each status has one.
    HttpOutcome = "outcome" 1,
    /// Those of the database.
    Pool = "pool" 2,
    /// Two of whatever has states.
    State = "state" 2,
    /// There is one.
    HostVersion = "version" 1,
    /// There is one.
    Contract = "contract" 1,
    /// There is one.
    Commit = "commit" 1,
}
