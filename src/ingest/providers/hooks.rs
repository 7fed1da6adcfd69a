//! Daily's webhooks: their state, and switching one on again.

use serde_json::{Value, json};

use super::api::{api_key, get, read_answer, segment};
use super::fields::Fields;
use crate::error::{Error, Result};
use crate::ingest::providers::daily::event::BASE;
use crate::model::Provider;
use crate::model::api::{ApiRequest, ApiResponse, Credentials, Method};
use crate::signed_url::SignedUrl;

/// One webhook as the provider sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The provider's id of it.
    pub id: String,
    /// Where it sends to, without query.
    pub shown_url: String,
    /// The same as the provider has it, which may hold a secret.
    pub url: SignedUrl,
    /// Whether it sends.
    pub state: HookState,
    /// Failures in a row.
    pub failed_count: Option<u64>,
}

impl Hook {
    /// Whether it leads to the source called `source`: a proxy may give us any host and any beginning of the path.
    pub fn leads_to(&self, source: &str) -> bool {
        let path = self.url.path();
        let rest = path.trim_end_matches('/').strip_suffix(source);
        rest.is_some_and(|rest| rest.ends_with("/webhooks/"))
    }
}

/// Whether a webhook sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Active,
    /// It was switched off after failures.
    Failed,
    /// Something else, such as stopped by an operator.
    Other,
}

pub(in crate::ingest) fn request(
    provider: Provider,
    credentials: &Credentials,
) -> Result<Option<ApiRequest>> {
    match provider {
        Provider::Daily => ask(credentials, "/webhooks").map(Some),
        _ => Ok(None),
    }
}

fn ask(credentials: &Credentials, path: &str) -> Result<ApiRequest> {
    let bearer = format!("Bearer {}", api_key(Provider::Daily, credentials)?);
    let headers = vec![("authorization", bearer.into())];
    get(Provider::Daily, credentials, Some(BASE), path, headers)
}

/// A list, in some answers one under `data`.
pub(in crate::ingest) fn answer(provider: Provider, response: &ApiResponse) -> Result<Vec<Hook>> {
    let mut response = response.clone();
    if response.body.trim_ascii_start().starts_with(b"[") {
        let mut wrapped = b"{\"data\":".to_vec();
        wrapped.extend_from_slice(&response.body);
        wrapped.push(b'}');
        response.body = wrapped.into();
    }
    let answer = read_answer(provider, &response)?;
    let fields = Fields::of(&answer);
    Ok(fields.list("data").filter_map(hook).collect())
}

fn hook(item: Fields) -> Option<Hook> {
    let url = item.value("url").and_then(Value::as_str)?;
    // Pages disagree on whether states are words or numbers.
    let state = match item.text("state").unwrap_or_default().as_str() {
        "ACTIVE" | "1" => HookState::Active,
        "FAILED" | "0" => HookState::Failed,
        _ => HookState::Other,
    };
    let url = SignedUrl::new(url);
    Some(Hook {
        id: item.first_text(&["uuid", "id"])?,
        shown_url: url.to_string(),
        url,
        state,
        failed_count: item
            .number("failedCount")
            .filter(|count| *count >= 0.0)
            .map(|count| count as u64),
    })
}

pub(in crate::ingest) fn reactivate(
    provider: Provider,
    hook: &Hook,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    if provider != Provider::Daily {
        return Err(Error::invalid(format!(
            "{provider}: there is no API call that switches a webhook on"
        )));
    }
    let id = segment(provider, &hook.id)?;
    Ok(ApiRequest {
        method: Method::Post,
        body: Some(json!({ "url": hook.url.expose() }).to_string()),
        ..ask(credentials, &format!("/webhooks/{id}"))?
    })
}

pub(in crate::ingest) fn reactivated(provider: Provider, response: &ApiResponse) -> Result<()> {
    read_answer(provider, response).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(body: &str) -> Vec<HookState> {
        let response = ApiResponse {
            status: 200,
            retry_after: None,
            date: None,
            body: body.to_owned().into(),
        };
        let hooks = answer(Provider::Daily, &response).unwrap();
        hooks.iter().map(|hook| hook.state).collect()
    }

    #[test]
    fn both_forms_of_the_list_and_of_the_state_are_read() {
        let words = r#"[{"uuid":"a","url":"https://h/w?k=1","state":"ACTIVE"},{"uuid":"b","url":"https://h/x","state":"FAILED","failedCount":3}]"#;
        let numbers = r#"{"data":[{"uuid":"a","url":"https://h/w","state":1},{"uuid":"b","url":"https://h/x","state":0},{"uuid":"c","url":"https://h/x","state":2}]}"#;
        use HookState::*;
        assert_eq!(states(words), [Active, Failed]);
        assert_eq!(states(numbers), [Active, Failed, Other]);
    }

    #[test]
    fn switching_on_again_posts_the_same_address() {
        let credentials = Credentials {
            api_key: Some("key".into()),
            ..Credentials::default()
        };
        let hook = Hook {
            id: "u-1".to_owned(),
            shown_url: "https://h/w".to_owned(),
            url: SignedUrl::new("https://h/w?k=1"),
            state: HookState::Failed,
            failed_count: None,
        };
        let request = reactivate(Provider::Daily, &hook, &credentials).unwrap();
        assert_eq!(request.url, "https://api.daily.co/v1/webhooks/u-1");
        assert_eq!(request.method, Method::Post);
        assert_eq!(request.body.unwrap(), r#"{"url":"https://h/w?k=1"}"#);
    }

    #[test]
    fn a_hook_is_a_sources_own_by_the_end_of_its_path() {
        for (url, expected) in [
            ("https://h/webhooks/daily", true),
            ("https://h/webhooks/daily/?k=1", true),
            ("https://h/behind/a/proxy/webhooks/daily", true),
            ("https://h/webhooks/daily-eu", false),
            ("https://h/webhooks/eu-daily", false),
            ("https://h/webhooks/x/daily", false),
            ("https://h/other?to=/webhooks/daily", false),
        ] {
            let body = format!(r#"[{{"uuid":"a","url":"{url}","state":"FAILED"}}]"#);
            let response = ApiResponse {
                status: 200,
                retry_after: None,
                date: None,
                body: body.into(),
            };
            let hooks = answer(Provider::Daily, &response).unwrap();
            assert_eq!(hooks[0].leads_to("daily"), expected, "{url}");
        }
    }
}
