//! Request ids, and their places in the log: made here, signed here, told true from forged here, without a store.
//!
//! An id is 16 bytes that name the request and 16 that prove it for one sale, in hexadecimal.
//! With an idempotency key the name is derived from user, key and sale, so that every host derives the same one.
//! Without one it begins with the time, as a UUID of version 7 does (RFC 9562): orders that come one after the other then lie one after the other in the databases' indexes, where random names would each touch a page of their own.
//! `http::purchases` calls this; the key itself comes from `secret`.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::domain::{KeyId, Place, RequestId, SaleId, UserId};

const NAME_BYTES: usize = 16;
/// Bits of a name that chance makes where the time makes the others: 48 hold the milliseconds since 1970 for ten thousand years.
const RANDOM_BITS: u32 = 80;
const PROOF_BYTES: usize = 16;
const PLACE_PROOF_BYTES: usize = 8;
const KEY_MIN_BYTES: usize = 16;

/// The keys that sign request ids: the first signs, all verify.
#[derive(Clone)]
pub struct TicketKeys {
    signing: Vec<u8>,
    retired: Vec<Vec<u8>>,
}

impl TicketKeys {
    /// Takes a key a line; blank lines do not count. None without a key, and where one is shorter than 16 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut keys = text
            .lines()
            .map(|line| line.trim().as_bytes().to_vec())
            .filter(|key| !key.is_empty())
            .collect::<Vec<_>>();
        if keys.is_empty() || keys.iter().any(|key| key.len() < KEY_MIN_BYTES) {
            return None;
        }
        let retired = keys.split_off(1);
        Some(Self {
            signing: keys.pop()?,
            retired,
        })
    }

    /// A key that nobody else has, for requests that nobody asks for later.
    pub fn fresh() -> Self {
        Self {
            signing: rand::random::<[u8; 32]>().to_vec(),
            retired: Vec::new(),
        }
    }

    /// The id of a request that came without an idempotency key, at this time.
    pub fn random(&self, sale: SaleId, at: Timestamp) -> RequestId {
        let time = u128::try_from(at.as_millisecond()).unwrap_or_default();
        let chance = rand::random::<u128>() >> (u128::BITS - RANDOM_BITS);
        self.seal((time << RANDOM_BITS | chance).to_be_bytes(), sale)
    }

    /// The id of every request of this user with this key for this sale.
    pub fn derived(&self, user: UserId, key: &KeyId, sale: SaleId) -> RequestId {
        let digest = mac(
            &self.signing,
            &[b"name", &user.to_be_bytes(), &key.0, &sale.to_be_bytes()],
        );
        self.seal(first(&digest.finalize().into_bytes()), sale)
    }

    /// The id, if one of these keys signed it for this sale.
    pub fn verify(&self, sale: SaleId, text: &str) -> Option<RequestId> {
        let mut bytes = [0; NAME_BYTES + PROOF_BYTES];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let (name, proof) = bytes.split_at(NAME_BYTES);
        let signed = self
            .all()
            .any(|key| prove(key, name, sale).verify_truncated_left(proof).is_ok());
        signed.then(|| RequestId(text.to_ascii_lowercase().into()))
    }

    /// A request's place as its Location carries it, with a proof that it is this request's: `partition-offset-proof`.
    pub fn place(&self, request: &RequestId, place: Place) -> String {
        let proof: [u8; PLACE_PROOF_BYTES] = first(
            &prove_place(&self.signing, request, place)
                .finalize()
                .into_bytes(),
        );
        let Place { partition, offset } = place;
        format!("{partition}-{offset}-{}", hex::encode(proof))
    }

    /// The place, if one of these keys signed it for this request.
    pub fn verify_place(&self, request: &RequestId, text: &str) -> Option<Place> {
        let mut parts = text.splitn(3, '-');
        let place = Place {
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
        };
        let mut proof = [0; PLACE_PROOF_BYTES];
        hex::decode_to_slice(parts.next()?, &mut proof).ok()?;
        let signed = self.all().any(|key| {
            prove_place(key, request, place)
                .verify_truncated_left(&proof)
                .is_ok()
        });
        signed.then_some(place)
    }

    fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.signing).chain(&self.retired)
    }

    fn seal(&self, name: [u8; NAME_BYTES], sale: SaleId) -> RequestId {
        let proof: [u8; PROOF_BYTES] =
            first(&prove(&self.signing, &name, sale).finalize().into_bytes());
        let mut sealed = [0; NAME_BYTES + PROOF_BYTES];
        let (begin, end) = sealed.split_at_mut(NAME_BYTES);
        begin.copy_from_slice(&name);
        end.copy_from_slice(&proof);
        RequestId(hex::encode(sealed).into())
    }
}

/// The digest under which a user's idempotency key is kept.
pub fn key_id(user: UserId, key: &str) -> KeyId {
    let digest = Sha256::new()
        .chain_update(user.to_be_bytes())
        .chain_update(key)
        .finalize();
    KeyId(first(&digest))
}

fn prove(key: &[u8], name: &[u8], sale: SaleId) -> Hmac<Sha256> {
    mac(key, &[b"proof", name, &sale.to_be_bytes()])
}

fn prove_place(key: &[u8], request: &RequestId, place: Place) -> Hmac<Sha256> {
    let (partition, offset) = (place.partition.to_be_bytes(), place.offset.to_be_bytes());
    mac(key, &[b"place", request.0.as_bytes(), &partition, &offset])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes keys of every length: the error has no way to arise"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    for (to, from) in taken.iter_mut().zip(bytes) {
        *to = *from;
    }
    taken
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{TicketKeys, key_id};
    use crate::domain::Place;

    fn keys(text: &str) -> TicketKeys {
        TicketKeys::parse(text).unwrap()
    }

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn an_id_is_true_for_its_sale_alone() {
        let keys = keys("a key of enough bytes");
        let id = keys.random(7, at(1));
        assert_eq!(keys.verify(7, &id.0), Some(id.clone()));
        assert_eq!(keys.verify(8, &id.0), None);
    }

    #[test]
    fn a_changed_digit_makes_an_id_forged() {
        let keys = keys("a key of enough bytes");
        let id = keys.random(7, at(1)).0;
        for place in 0..id.len() {
            let mut forged = id.as_bytes().to_vec();
            forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(keys.verify(7, &String::from_utf8(forged).unwrap()), None);
        }
    }

    #[test]
    fn a_place_is_true_for_its_request_alone_and_for_no_other_place() {
        let keys = keys("a key of enough bytes");
        let [id, other] = [1, 2].map(|time| keys.random(7, at(time)));
        let place = Place {
            partition: 3,
            offset: 14,
        };
        let told = keys.place(&id, place);
        assert_eq!(keys.verify_place(&id, &told), Some(place));
        assert_eq!(keys.verify_place(&other, &told), None);
        let moved = told.replacen("3-14", "3-13", 1);
        for forged in [&moved, "3-14", "3-14-", "3-14-00", "x", "", &told[1..]] {
            assert_eq!(keys.verify_place(&id, forged), None, "{forged}");
        }
    }

    #[test]
    fn ids_without_a_key_stand_in_the_order_of_their_time_and_are_never_the_same() {
        let keys = keys("a key of enough bytes");
        let [first, again, later] = [1_000, 1_000, 1_001].map(|time| keys.random(7, at(time)).0);
        assert_ne!(first, again);
        assert!(first < later && again < later);
    }

    #[test]
    fn the_same_user_and_key_derive_the_same_id_and_others_do_not() {
        let keys = keys("a key of enough bytes");
        let derive = |user, key| keys.derived(user, &key_id(user, key), 7);
        assert_eq!(derive(1, "k"), derive(1, "k"));
        assert_ne!(derive(1, "k"), derive(2, "k"));
        assert_ne!(derive(1, "k"), derive(1, "l"));
    }

    #[test]
    fn a_retired_key_still_verifies_and_no_longer_signs() {
        let old = keys("the old key, long enough");
        let rotated = keys("the new key, long enough\nthe old key, long enough\n");
        let id = old.random(7, at(1));
        assert!(rotated.verify(7, &id.0).is_some());
        assert_eq!(old.verify(7, &rotated.random(7, at(1)).0), None);
    }

    #[test]
    fn a_short_key_and_no_key_are_refused() {
        assert!(TicketKeys::parse("short").is_none());
        assert!(TicketKeys::parse("a key of enough bytes\nshort").is_none());
        assert!(TicketKeys::parse("\n\n").is_none());
    }
}
