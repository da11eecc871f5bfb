//! A guest that misbehaves on request, so that the host's tests can show that no misdeed does harm.
//!
//! It is also, where a test has written a name into it, one strategy of a corpus of right and wrong ones (`corpus`).
//! As it was built, the client chooses the misdeed: it is `user_id % 100`, so a test picks users 100 × k + misdeed to have many buyers do the same.
//! No misdeed checks the sale's rules first; one whose first step the host refuses ends with that refusal, unless the table says otherwise.
//! Never staged by `make run`; the tests stage it as `faulty.wasm`.
//!
//! Misdeeds of a purchase (`misdeeds`); any other number is answered with `invalid`:
//!
//! | number | misdeed | ends with |
//! |---|---|---|
//! | 0 | none: buys in one step | the true answer |
//! | 1 | traps at once, without a word | trap |
//! | 2 | panics with the message `misdeed 2` | trap |
//! | 3 | spins for ever without calling the host | no end |
//! | 4 | allocates without end | trap when memory is refused |
//! | 5 | recurses until the stack overflows | trap |
//! | 6 | calls `find-sale` for ever, whatever it answers | no end |
//! | 7 | logs lines of 64 KiB for ever | no end |
//! | 8 | says completed with an invented order | `completed` |
//! | 9 | says accepted with an invented ticket | `accepted` |
//! | 10 | locks the sale's row and leaks the transaction | `rejected(sold-out)`, which is not so |
//! | 11 | takes the lock `time-sale-lock:{sale}` and leaks it | `rejected(sold-out)`, which is not so |
//! | 12 | locks the sale's row and spins | no end |
//! | 13 | waits for the lock `time-sale-lock:{sale}` with the row locked | what the wait answered |
//! | 14 | submits to the log with the row locked | what `submit` answered |
//! | 15 | opens a second transaction beside the first | what its `lock-sale` answered |
//! | 16 | places the order, traps in the open transaction | trap |
//! | 17 | places the order, drops the transaction, says completed | `completed` |
//! | 18 | places the order, commits, traps | trap |
//! | 19 | places the order, commits, spins | no end |
//! | 20 | places the order, commits, says rejected | `rejected(sold-out)` |
//! | 21 | places the order 100 times in one transaction, ignores every refusal, commits | the last answer |
//! | 22 | places the order and commits, twice | the second answer |
//! | 23 | places orders for requests that are not its own: `ref + 1`, then `u32::MAX` | the last answer |
//! | 24 | buys in one step `ref`, `ref`, `ref + 1` and `u32::MAX` | the first answer |
//! | 25 | places the order with the invented fencing token `u64::MAX` | the true answer |
//! | 26 | submits to the log and traps | trap |
//! | 27 | submits to the log twice | the second answer |
//! | 28 | publishes a forged request to `time-sale-requests` | what `publish` answered |
//! | 29 | sets a Redis key of 1 MiB | the failure, else `rejected(sold-out)` |
//! | 30 | sets a Redis value of 1 MiB | the failure, else `rejected(sold-out)` |
//! | 31 | writes a 0 into the cache `time-sale:{sale}` | `rejected(sold-out)`, which is not so |
//! | 32 | takes locks of ever new names and keeps them all | the first failure |
//! | 33 | none: takes ten megabytes, in pieces small and large, and buys in one step | the true answer |
//! | 34 | holds the lock `time-sale-lock:{sale}` 300 ms for each piece, then places the order under its token | the true answer |
//! | 35 | places its order and commits in one step, and does so again | the second answer |
//! | 36 | places the order of a request that it was not given, and commits, in one step | the failure |
//! | 37 | places its order under a token that no lock gave, and commits, in one step | the failure |
//! | 38 | places its order, then places it once more and commits, in one step | the failure |
//! | 39 | makes transactions without end and keeps them all | trap when handles are refused |
//! | 40 | reads the sale with its row locked, then places the order and commits | what `find-sale` answered, else the true answer |
//!
//! Misdeeds of a settlement (`poison`): the purchase of such a user submits the request and behaves; its record is what harms.
//!
//! | number | what `settle` does with a batch that holds such a record |
//! |---|---|
//! | 50 | nothing wrong: settles it in one step |
//! | 51 | traps |
//! | 52 | panics with the message `misdeed 52` |
//! | 53 | spins for ever |
//! | 54 | leaves its answer out |
//! | 55 | gives one answer more |
//! | 56 | says that it has an order, invented |
//! | 57 | settles it and then says rejected |
//! | 58 | fails it, every time |
//! | 59 | submits it again and fails it with what `submit` answered |

mod corpus;
mod misdeeds;
mod poison;

use std::process;

use timesale_sdk::bindings::exports::timesale::strategy::purchasing::{Description, Guest};
use timesale_sdk::{Order, Outcome, Refusal, Request, Strategy, kafka};

struct Faulty;

impl Strategy for Faulty {
    const OPERATION: &str = "purchaseFaultily";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        if let Some((purchase, _)) = corpus::chosen() {
            return purchase(request);
        }
        match number(request) {
            50..=59 => Ok(Outcome::Accepted(kafka::submit(request.handle)?)),
            misdeed => misdeeds::commit(misdeed, request),
        }
    }

    fn settle(requests: &[Request]) -> Vec<Result<Order, Refusal>> {
        match corpus::chosen() {
            Some((_, settle)) => settle(requests),
            None => poison::settle(requests),
        }
    }
}

/// The strategy as the host sees it, save that the corpus has two that cannot describe themselves.
struct Component;

impl Guest for Component {
    fn describe() -> Description {
        match corpus::choice() {
            "traps-in-describe" => process::abort(),
            "no-operation" => Description {
                operation: "purchase faultily".to_owned(),
            },
            _ => <Faulty as Guest>::describe(),
        }
    }

    fn purchase(request: Request) -> Result<Outcome, Refusal> {
        <Faulty as Guest>::purchase(request)
    }

    fn settle(requests: Vec<Request>) -> Vec<Result<Order, Refusal>> {
        <Faulty as Guest>::settle(requests)
    }
}

#[cfg(target_arch = "wasm32")]
timesale_sdk::bindings::export!(Component with_types_in timesale_sdk::bindings);
#[cfg(not(target_arch = "wasm32"))]
const _: fn() -> Description = <Component as Guest>::describe;

/// The misdeed that the client chose.
fn number(request: &Request) -> u64 {
    request.user_id % 100
}

/// An order that no database has taken.
fn invented_order() -> Order {
    Order {
        id: 4_000_000_000,
        remaining: 0,
    }
}
