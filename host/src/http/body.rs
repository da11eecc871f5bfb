//! Bodies as they come in: JSON objects, whose fields are what the documentation says and are refused in its words.
//!
//! The handlers beside it name these functions at their fields; `Problem` says which field was wrong.

use std::{fmt, marker::PhantomData};

use axum::extract::{FromRequest, Request};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::error::Problem;

/// A body that is a JSON object, or the problem that says where it is wrong.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(Object(body)) = axum::Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// What is read from an object, and not from a list of its fields' values, which serde takes for a struct too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A whole number of the field's type.
pub fn whole<'de, D, N>(from: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64> + TryFrom<u64>,
{
    Whole::deserialize(from).map(|Whole(number)| number)
}

/// The same, for a field that may be null.
pub fn whole_or_null<'de, D, N>(from: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64> + TryFrom<u64>,
{
    let number = Option::<Whole<N>>::deserialize(from)?;
    Ok(number.map(|Whole(number)| number))
}

struct Whole<N>(N);

impl<'de, N: TryFrom<i64> + TryFrom<u64>> Deserialize<'de> for Whole<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits<N>(PhantomData<N>);

        impl<N: TryFrom<i64> + TryFrom<u64>> Visitor<'_> for Digits<N> {
            type Value = N;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number within its bounds")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
                let wrong = |_| E::invalid_value(Unexpected::Signed(number), &self);
                N::try_from(number).map_err(wrong)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
                let wrong = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
                N::try_from(number).map_err(wrong)
            }
        }

        from.deserialize_i64(Digits(PhantomData)).map(Self)
    }
}

/// A time as RFC 3339 has it, with its offset.
pub fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    // The last that jiff knows, less an offset of a day and some.
    const WANTED: &str =
        "a time as 2026-01-31T09:00:00+09:00 (RFC 3339), before 9999-12-30T22:00:00Z";

    let text = String::deserialize(from)?;
    let moment = is_rfc_3339(&text).then(|| text.parse().ok()).flatten();
    moment.ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &WANTED))
}

/// Whether a text has the form of RFC 3339, section 5.6; jiff takes other forms of ISO 8601 beside it.
fn is_rfc_3339(text: &str) -> bool {
    let fits = |text: &str, form: &str| {
        text.len() == form.len()
            && form
                .bytes()
                .zip(text.bytes())
                .all(|(form, byte)| match form {
                    b'0' => byte.is_ascii_digit(),
                    form => byte.eq_ignore_ascii_case(&form),
                })
    };
    let Some((seconds, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|it: char| it.is_ascii_digit());
            if offset.len() == fraction.len() {
                return false;
            }
            offset
        }
    };
    fits(seconds, "0000-00-00T00:00:00")
        && ["Z", "+00:00", "-00:00"]
            .iter()
            .any(|form| fits(offset, form))
}

#[cfg(test)]
mod tests {
    use super::is_rfc_3339;

    #[test]
    fn a_time_has_the_form_of_rfc_3339_and_no_other() {
        for time in [
            "2020-01-01T00:00:00Z",
            "2020-01-01t00:00:00.5z",
            "2020-01-01T00:00:00.123456789+09:00",
            "0000-01-01T23:59:60-23:59",
        ] {
            assert!(is_rfc_3339(time), "{time}");
        }
        for time in [
            "20200101T000000Z",
            "2020-01-01T00Z",
            "2020-01-01T00:00Z",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00:00+0900",
            "2020-01-01T00:00:00+09",
            "2020-01-01T00:00:00.Z",
            "2020-01-01T00:00:00,5Z",
            "2020-01-01T00:00:00+09:00[Asia/Seoul]",
            "-002020-01-01T00:00:00Z",
            "2020-01-01T00:00:0éZ",
            "",
        ] {
            assert!(!is_rfc_3339(time), "{time}");
        }
    }
}
