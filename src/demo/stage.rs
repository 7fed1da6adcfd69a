//! The running parts of the demo: the webhook listener and the worker, and who posts to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::SECRET;
use super::events::DemoEvent;
use crate::app::{App, ArchiveTarget};
use crate::cli::output::CommandResult;
use crate::cli::senders;
use crate::error::Error;
use crate::server::listen::{self, HttpLimits};
use crate::server::webhook::{self, BODY_TIMEOUT, COMMIT_TIMEOUT, Intake};
use crate::source::client;

/// For the last transfers, which have all ended before.
const GRACE: Duration = Duration::from_secs(5);

/// For one webhook to be answered.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Listener and worker, running.
pub(super) struct Stage {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<crate::error::Result<()>>,
}

impl Stage {
    pub(super) async fn start(
        house: &App,
        destination: &ArchiveTarget,
        shutdown: &CancellationToken,
    ) -> CommandResult<Stage> {
        let listener = listen::bind(house.config.listen, "listen").await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::internal("learn the listener's address").with_source(error))?;
        let shutdown = shutdown.child_token();
        let mut tasks = JoinSet::new();
        let router = webhook::router(Arc::new(intake(house)?));
        let limits = HttpLimits::default();
        tasks.spawn(listen::serve(listener, router, limits, shutdown.clone()));
        let worker = house.worker(destination, &[address], GRACE)?;
        let token = shutdown.clone();
        tasks.spawn(async move { worker.run(token).await });
        Ok(Stage {
            address,
            shutdown,
            tasks,
        })
    }

    /// Where webhooks are taken.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a part has ended although nobody asked it to.
    pub(super) fn has_ended(&self) -> bool {
        self.tasks.len() < 2
    }

    /// Posts the events one after the other, as providers do, and one without the secret. Says which were not
    /// answered as they should be.
    pub(super) async fn post_all(&self, events: &[DemoEvent]) -> CommandResult<Vec<String>> {
        let client = client::local_client(Some(POST_TIMEOUT))?;
        let mut wrong = Vec::new();
        for event in events {
            let status = self.post(&client, event, Some(SECRET.1)).await?;
            if status != 200 {
                wrong.push(format!("{}: answered {status}, not 200", event.name));
            }
        }
        if let Some(event) = events.first() {
            let status = self.post(&client, event, None).await?;
            if status != 401 {
                wrong.push(format!(
                    "{} without secret: answered {status}, not 401",
                    event.name
                ));
            }
        }
        Ok(wrong)
    }

    /// Ends both parts; the worker drains.
    pub(super) async fn end(mut self) -> CommandResult {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended
                .map_err(|error| Error::internal("end a part of the demo").with_source(error))??;
        }
        Ok(())
    }

    async fn post(
        &self,
        client: &reqwest::Client,
        event: &DemoEvent,
        secret: Option<&str>,
    ) -> CommandResult<u16> {
        let url = format!("http://{}/webhooks/{}", self.address, event.provider);
        let mut request = client
            .post(url)
            .header("content-type", "application/json")
            .body(event.body.clone());
        if let Some(secret) = secret {
            request = request.header(SECRET.0, secret);
        }
        for (name, value) in &event.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|error| {
            Error::internal(format!("post {}", event.name)).with_source(error.without_url())
        })?;
        Ok(response.status().as_u16())
    }
}

fn intake(house: &App) -> CommandResult<Intake> {
    let sources = senders::webhook_sources(&house.config, &house.clock)?;
    Ok(Intake {
        store: house.store.clone(),
        layout: house.layout.clone(),
        sources,
        clock: house.clock.clone(),
        bell: house.bell.clone(),
        metrics: house.metrics.clone(),
        trusted_proxies: Vec::new(),
        body_timeout: BODY_TIMEOUT,
        commit_timeout: COMMIT_TIMEOUT,
    })
}
