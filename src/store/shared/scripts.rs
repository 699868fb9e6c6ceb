//! What is done in the store in one step: scripts of one key each, so that a cluster can run them too.
//!
//! Invariant: a tombstone that is there is never overwritten, whatever is written and whoever writes it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use redis::Cmd;

/// A script, called by its hash.
pub(super) struct Script {
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(super) static $name: Script = Script { text: $text, hash: LazyLock::new(|| hash($text)) };)*
        /// All of them.
        static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    /// Takes away what nobody can read: a thing of another type, or still the bytes of the argument, which are no tombstone.
    CLEAR = "local t = redis.call('TYPE', KEYS[1]).ok
if t == 'none' then return 0 end
if t ~= 'string' or (ARGV[1] ~= '' and redis.call('GET', KEYS[1]) == ARGV[1]) then return redis.call('DEL', KEYS[1]) end
return 0";
    /// Writes a session, where the store has what the writer knows (its tag), or nothing where nothing is known of. 1: it is
    /// written; 2: it is not, for there is nothing where something was expected, and what leads to it may be gone too; a
    /// string: what is there instead.
    /// Arguments: the tag, the value, until when (milliseconds), the channel, what to tell (if anything).
    WRITE = "local h = redis.call('GETRANGE', KEYS[1], 0, 9)
if #h > 0 and (#h < 10 or string.byte(h, 2) % 2 == 1 or string.sub(h, 3, 10) ~= ARGV[1]) then
  return redis.call('GET', KEYS[1])
end
if #h == 0 and ARGV[1] ~= string.rep('\\0', 8) then return 2 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1";
    /// Puts a tombstone. 1: it is the first, or the one of the same tag; 0: there was one. Arguments: the tag, the value,
    /// until when, the channel, what to tell.
    BURY = "local h = redis.call('GETRANGE', KEYS[1], 0, 9)
if #h >= 10 and string.byte(h, 2) % 2 == 1 then
  if string.sub(h, 3, 10) == ARGV[1] then return 1 end
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1";
    /// Makes a session another proxy's. 1: done; 0: it is no more, or not the old one's. Arguments: the old owner, the new
    /// one, the new tag, the channel, what to tell.
    TAKE = "local h = redis.call('GETRANGE', KEYS[1], 0, 29)
if #h < 30 or string.byte(h, 2) % 2 == 1 then return 0 end
if string.sub(h, 11, 18) == ARGV[2] then return 1 end
if string.sub(h, 11, 18) ~= ARGV[1] then return 0 end
local epoch = struct.pack('>I4', struct.unpack('>I4', string.sub(h, 19, 22)) + 1)
redis.call('SETRANGE', KEYS[1], 2, ARGV[3] .. ARGV[2] .. epoch)
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1";
    /// Renews a proxy's lease, unless it only looks (the second argument is 0). The time, when this one's was renewed
    /// before, then every proxy and when its was.
    RENEW = "local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local before = redis.call('ZSCORE', KEYS[1], ARGV[1]) or ''
if ARGV[2] == '1' then redis.call('ZADD', KEYS[1], now, ARGV[1]) end
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
table.insert(all, 1, before)
table.insert(all, 1, now)
return all";
    /// What is there, or else what is put there. Argument: the value.
    KEEP = "local v = redis.call('GET', KEYS[1])
if v then return v end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]";
    /// Claims something. 1: it is the caller's. Arguments: who it is, for how long (milliseconds).
    CLAIM = "local v = redis.call('GET', KEYS[1])
if v then
  if v == ARGV[1] then return 1 end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";
    /// Gives up a claim of the proxy that is the argument.
    UNCLAIM = "local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, 8) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";
    /// Notes a value where the one that is there is the expected one. 1: done; else what is there, or nothing. Arguments:
    /// whether something is expected, what, the value, the channel, what to tell.
    NOTE = "local v = redis.call('GET', KEYS[1])
if v == ARGV[3] then return 1 end
if (v and (ARGV[1] == '0' or v ~= ARGV[2])) or (not v and ARGV[1] == '1') then return v end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1";
}

impl Script {
    /// A call of it; its arguments are added behind.
    pub(super) fn on(&self, key: &[u8]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.hash.as_str()).arg(1).arg(key);
        call
    }
}

/// What makes them known to a server.
pub(super) fn load() -> Vec<Cmd> {
    let load = |script: &&Script| {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.text);
        load
    };
    ALL.iter().map(load).collect()
}

/// The same call with the script's own text.
pub(super) fn whole(call: &Cmd) -> Option<Cmd> {
    let mut arguments = call.args_iter().filter_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    let (_, hash) = (arguments.next()?, arguments.next()?);
    let script = ALL.iter().find(|script| script.hash.as_bytes() == hash)?;
    let mut whole = redis::cmd("EVAL");
    whole.arg(script.text);
    for argument in arguments {
        whole.arg(argument);
    }
    Some(whole)
}

fn hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(40), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_by_hash_becomes_one_by_text() {
        let mut call = BURY.on(b"key");
        call.arg("tag").arg(b"\0\xff");
        let text = String::from_utf8_lossy(&whole(&call).unwrap().get_packed_command()).into_owned();
        assert!(text.contains("EVAL") && text.contains(BURY.text) && text.contains("tag"), "{text}");
        assert!(!text.contains(BURY.hash.as_str()));
        // As the server itself would call it: echo -n "return 1" | sha1sum.
        assert_eq!(hash("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert!(whole(&redis::cmd("GET")).is_none());
    }
}
