//! How long a request may take: the server's limit, or less if the client says so by `timeout=30s`.

use std::time::Duration;

use jiff::SignedDuration;
use k3s_api::quote::quote;
use k3s_api::status::Status;

use crate::request::Query;

/// The time that a request has, which is never more than `most`.
///
/// # Errors
/// 400 for a `timeout` that is none.
pub(crate) fn of(query: &Query, most: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else { return Ok(most) };
    let asked = parse(text).ok_or_else(|| {
        let why = format!("time: invalid duration {}", quote(text));
        Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    })?;
    Ok(if asked.is_zero() { most } else { asked.min(most) })
}

/// 504.
pub(crate) fn passed() -> Status {
    Status::timeout("request did not complete within the allotted timeout", 0)
}

/// A duration as Go writes it: `1h2m3.5s`, `300ms`. Clients send seconds as a number alone, too.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_may_ask_for_less_time_and_not_for_more() {
        let most = Duration::from_secs(60);
        let of = |query: &str| of(&Query::parse(query), most).map_err(|status| status.message);
        assert_eq!(of(""), Ok(most));
        assert_eq!(of("timeout=0s"), Ok(most));
        assert_eq!(of("timeout=1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(of("timeout=1h2m"), Ok(most));
        assert_eq!(of("timeout=32"), Ok(Duration::from_secs(32)));
        let message = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
        assert_eq!(of("timeout=soon"), Err(message.to_owned()));
        assert!(of("timeout=-5s").is_err() && of("timeout=5x").is_err());
    }
}
