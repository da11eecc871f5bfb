//! What the server does in one step, as Lua.
//!
//! `redis` and `locks` run them by their digests; a server that does not know one is sent it.
//! A number of Lua holds 53 bits: counters and tokens pass through here as text.

use std::sync::LazyLock;

use redis::Script;

/// What a counter's fault is: of its value, by a name of ours, or of the server, by its own.
const FAULT: &str = "local function fault(said)
            if said.err:sub(1, 4) == 'ERR ' then return redis.error_reply('WRONGVALUE ' .. said.err) end
            return said
        end
        ";

/// Adds ARGV[1] to the counter KEYS[1]; a new one lives for ARGV[2] ms.
pub static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FAULT}
        local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
        if type(sum) == 'table' then return fault(sum) end
        if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
        return redis.call('GET', KEYS[1])"
    ))
});

/// Lowers the counter KEYS[1] by ARGV[1] if it holds that much; false where not.
pub static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FAULT}
        local held = redis.call('GET', KEYS[1])
        if not held then return false end
        local sum = redis.pcall('INCRBY', KEYS[1], 0)
        if type(sum) == 'table' then return fault(sum) end
        -- The text of a counter has no leading zeros: of two the longer is the larger.
        local digits = #held - #ARGV[1]
        if held:sub(1, 1) == '-' or digits < 0 or (digits == 0 and held < ARGV[1]) then return false end
        redis.call('DECRBY', KEYS[1], ARGV[1])
        return redis.call('GET', KEYS[1])"
    ))
});

/// Sets the counter of tokens KEYS[1], where it is not set, to ARGV[1] or, where that is more, to the server's clock in microseconds.
///
/// Tokens that were granted before the server lost them, and that no row has seen yet, are below the clock: no server grants a million locks a second.
pub static SEED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
        local clock = time[1] * 1000000 + time[2]
        local first = ARGV[1]
        if tonumber(first) < clock then first = string.format('%.0f', clock) end
        redis.call('SET', KEYS[1], first, 'NX')",
    )
});

/// Of a lock KEYS[1] and its queue KEYS[2]: the first in the queue has it for ARGV[2] ms, in which to come for it, and is told so on its host's channel, which ARGV[3] begins.
///
/// The lock holds `waiter` while it is kept for one, and `waiter token` while it is held.
const PASS_ON: &str = "local function pass_on()
            local first = redis.call('LPOP', KEYS[2])
            if not first then return redis.call('DEL', KEYS[1]) end
            redis.call('SET', KEYS[1], first, 'PX', ARGV[2])
            local host, number = first:match('^(%x+):(%d+)$')
            redis.call('PUBLISH', ARGV[3] .. host, number)
        end
        ";

/// Takes the lock for the waiter ARGV[1] and ARGV[4] ms, with the next of the tokens KEYS[3]; or puts it in the queue, which lives for ARGV[5] ms more.
///
/// Answers GRANTED and the token, WAIT and the milliseconds until the lock lapses, or UNSEEDED.
pub static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{PASS_ON}
        if redis.call('EXISTS', KEYS[3]) == 0 then return {{'UNSEEDED', 0}} end
        local me = ARGV[1]
        local holder = redis.call('GET', KEYS[1])
        if not holder then
            holder = redis.call('LINDEX', KEYS[2], 0) or me
            if holder ~= me then pass_on() end
        end
        if holder == me then
            redis.call('LREM', KEYS[2], 0, me)
            redis.call('INCR', KEYS[3])
            local token = redis.call('GET', KEYS[3])
            redis.call('SET', KEYS[1], me .. ' ' .. token, 'PX', ARGV[4])
            return {{'GRANTED', token}}
        end
        if not redis.call('LPOS', KEYS[2], me) then redis.call('RPUSH', KEYS[2], me) end
        if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[2], ARGV[5]) end
        return {{'WAIT', redis.call('PTTL', KEYS[1])}}"
    ))
});

/// Gives up what the waiter ARGV[1] has of the lock: its place in the queue, or the lock.
pub static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{PASS_ON}
        redis.call('LREM', KEYS[2], 0, ARGV[1])
        local held = redis.call('GET', KEYS[1])
        if held and held:match('^%S+') == ARGV[1] then pass_on() end"
    ))
});

/// Releases the lock if the token ARGV[1] holds it; says whether it did.
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{PASS_ON}
        local held = redis.call('GET', KEYS[1])
        if not held or held:match(' (%d+)$') ~= ARGV[1] then return 0 end
        pass_on()
        return 1"
    ))
});
