//! The machines of the simulated cluster, as whoever runs the simulation handles them: each is a host of the simulated network
//! with its kernel, and a process beside it.

use super::hosts::Machines;
use super::kernel::{Calls, KernelNet, calls, run_kernel};
use super::process::Process;
use cairn_env::Env;
use futures::future::LocalBoxFuture;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a process does from its start on, with the doors of its machine.
pub(crate) type Program = Rc<dyn Fn(Env) -> LocalBoxFuture<'static, ()>>;

/// One machine.
struct Machine {
    program: Program,
    /// What the next kernel is to hear.
    calls: Arc<Mutex<Option<Calls>>>,
    process: Option<Process>,
}

/// Network, machines, and the time that passes.
pub(crate) struct Cluster<'a> {
    pub(crate) network: turmoil::Sim<'a>,
    machines: BTreeMap<String, Machine>,
    hardware: Machines,
    tick: Duration,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(network: turmoil::Sim<'a>, hardware: Machines, tick: Duration) -> Self {
        Self { network, machines: BTreeMap::new(), hardware, tick }
    }

    /// Puts a machine up and starts its program.
    pub(crate) fn add(&mut self, host: &str, program: impl Fn(Env) -> LocalBoxFuture<'static, ()> + 'static) {
        let next = Arc::new(Mutex::new(None::<Calls>));
        let heard = next.clone();
        self.network.host(host, move || {
            let calls = heard.lock().unwrap().take();
            async move {
                match calls {
                    Some(calls) => run_kernel(calls).await,
                    None => std::future::pending().await,
                }
                Ok(())
            }
        });
        let machine = Machine { program: Rc::new(program), calls: next, process: None };
        self.machines.insert(host.to_owned(), machine);
        self.start(host);
    }

    /// Starts a machine anew.
    pub(crate) fn start(&mut self, host: &str) {
        let machine = self.machines.get_mut(host).unwrap();
        machine.process = None;
        self.network.crash(host);
        let (net, heard): (KernelNet, Calls) = calls();
        *machine.calls.lock().unwrap() = Some(heard);
        self.network.bounce(host);
        let (hardware, name, program) = (self.hardware.clone(), host.to_owned(), machine.program.clone());
        let seed = hardware.power_on(host);
        machine.process =
            Some(Process::start(seed, async move { program(hardware.boot(&name, seed, net)).await }));
    }

    /// A machine is gone with all that it had in memory.
    pub(crate) fn crash(&mut self, host: &str) {
        self.machines.get_mut(host).unwrap().process = None;
        self.network.crash(host);
    }

    /// Stops a process, or lets it go on. False when there is none.
    pub(crate) fn stop(&mut self, host: &str, stop: bool) -> bool {
        let process = &mut self.machines.get_mut(host).unwrap().process;
        process.as_mut().is_some_and(|process| {
            process.stop(stop);
            true
        })
    }

    /// Whether a machine has a process.
    pub(crate) fn is_up(&self, host: &str) -> bool {
        self.machines[host].process.is_some()
    }

    /// Whether the program of a machine has come to its end.
    pub(crate) fn has_ended(&self, host: &str) -> bool {
        self.machines[host].process.as_ref().is_some_and(Process::has_ended)
    }

    /// The network moves, then every process.
    pub(crate) fn step(&mut self) {
        self.network.step().unwrap();
        self.hardware.clock().set(self.network.elapsed());
        for (host, machine) in &mut self.machines {
            if let Some(process) = &mut machine.process {
                let _named = tracing::info_span!("on", host).entered();
                process.step(self.tick, self.hardware.speed_ppm(host));
            }
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.network.elapsed()
    }
}
