//! The servers that are compared, each as a program of its own: what a call needs of them and nothing else.

use std::time::Duration;

use anyhow::Context;

use super::client::Client;

mod edge;
mod janus;

pub(super) use edge::Edge;
pub(super) use janus::Janus;

/// The longest that an exchange of descriptions may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(20);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ours.
    Edge,
    /// Janus with its videoroom.
    Janus,
}

impl Program {
    /// As it is printed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Janus => "janus",
        }
    }
}

/// A running one, with one call or room.
pub(super) enum Server {
    Edge(Box<Edge>),
    Janus(Janus),
}

impl Server {
    /// Starts it, with room for so many who receive.
    pub(super) async fn start(program: Program, subscribers: u32) -> anyhow::Result<Self> {
        Ok(match program {
            Program::Edge => Self::Edge(Box::new(Edge::start(subscribers).await)),
            Program::Janus => Self::Janus(Janus::start().await?),
        })
    }

    /// Its process.
    pub(super) fn pid(&mut self) -> u32 {
        match self {
            Self::Edge(edge) => edge.pid(),
            Self::Janus(janus) => janus.pid(),
        }
    }

    /// Who joins calls.
    pub(super) fn door(&self) -> Door {
        match self {
            Self::Edge(edge) => Door::Edge(edge.door()),
            Self::Janus(janus) => Door::Janus(janus.door()),
        }
    }
}

/// How clients come in. Cheap to clone.
#[derive(Clone)]
pub(super) enum Door {
    Edge(edge::Door),
    Janus(janus::Door),
}

impl Door {
    /// Lets a client publish.
    pub(super) async fn publish(&self, client: &mut Client) -> anyhow::Result<()> {
        let exchange = async {
            match self {
                Self::Edge(door) => door.publish(client).await,
                Self::Janus(door) => door.publish(client).await,
            }
        };
        tokio::time::timeout(EXCHANGE_MAX, exchange).await.context("no answer to the publisher")?
    }

    /// Lets a client receive the publisher; returns the description that says what was agreed on.
    pub(super) async fn subscribe(&self, number: u32, client: &mut Client) -> anyhow::Result<String> {
        let exchange = async {
            match self {
                Self::Edge(door) => door.subscribe(number, client).await,
                Self::Janus(door) => door.subscribe(client).await,
            }
        };
        tokio::time::timeout(EXCHANGE_MAX, exchange).await.context("no answer to a subscriber")?
    }
}
