//! What `js5d` promises, shown by the real binary over real sockets.
//!
//! One test program for all of it, so that it is linked once. The client's side is the pure
//! session of the library; where the session itself could hide a fault, the bytes on the wire
//! are compared with a slow model that knows nothing of the code under test.

mod admin;
mod admin_limits;
mod admission;
mod bandwidth;
mod caches;
mod chatter;
mod clients;
mod deadlines;
mod drain;
mod driver;
mod fairness;
mod front_admin;
mod game;
mod game_limits;
mod game_realtime;
mod handover;
mod handover_under_load;
mod memory;
mod mirror;
mod openings;
mod program;
mod proxy;
mod reload;
mod reload_under_load;
mod serve;
mod settings;
mod settings_faults;
mod status_page;
mod supervised;
mod support;
