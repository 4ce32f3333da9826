//! Calls through one shard, with real connections over a network in memory.

mod client;
mod world;

use std::time::Duration;

use sfu::{Command, Event, PeerId};
use world::World;

const SECOND: Duration = Duration::from_secs(1);

fn both_hear(world: &World, one: (u64, &str), other: (u64, &str), packets: usize) -> bool {
    [world.heard(one.0, other.1), world.heard(other.0, one.1)].iter().all(|(audio, video)| *audio > packets && *video > packets)
}

#[test]
fn two_members_see_and_hear_each_other() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    assert_eq!(world.refused(), Vec::<&Event>::new());
    assert_eq!(world.client(1).errors, Vec::<String>::new());
}

#[test]
fn a_third_who_comes_late_is_told_to_everybody_and_leaves_again() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.join_speaking(3, "cem");
    world.until("the third hears and is heard", |world| {
        both_hear(world, (1, "ann"), (3, "cem"), 50) && both_hear(world, (2, "ben"), (3, "cem"), 50)
    });
    world.command(Command::Leave { peer: PeerId(3) });
    world.clients.remove(&3);
    world.run(SECOND);
    let before = world.heard(1, "ben");
    world.run(SECOND);
    assert!(world.heard(1, "ben").0 > before.0 + 40);
    assert_eq!(world.refused(), Vec::<&Event>::new());
}
