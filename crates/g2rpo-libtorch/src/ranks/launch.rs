//! Which process this is, as `torchrun` and `srun` say it in the environment.

use crate::error::{Error, Result};

/// This process among those that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Number of this process, from 0: `RANK`, or `SLURM_PROCID`.
    pub rank: usize,
    /// Number of processes: `WORLD_SIZE`, or `SLURM_STEP_NUM_TASKS`.
    pub size: usize,
    /// Number of this process on its machine, from 0: `LOCAL_RANK`, or `SLURM_LOCALID`; the index of its GPU.
    pub local_rank: usize,
    /// Where the store is: `MASTER_ADDR`, or the first of `SLURM_STEP_NODELIST`, or `127.0.0.1`.
    pub host: String,
    /// Its port: `MASTER_PORT`; under srun by default one of 15000 to 24999, by the numbers of job and step.
    pub port: u16,
    /// Whether the store is held by `torchrun` itself (`TORCHELASTIC_USE_AGENT_STORE`); else rank 0 holds it.
    pub agent_store: bool,
    /// How often the launcher has started this group again: `TORCHELASTIC_RESTART_COUNT`, or 0.
    pub restart: u32,
}

impl Launch {
    /// Reads the environment; `None` for a process that was started alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of a variable that is missing or is no number.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere.
    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &'static str| {
            let value = get(name).filter(|value| !value.is_empty());
            let parse = |v: String| {
                let wrong = |_| Error::invalid(name, format!("{v:?} is not a number"));
                v.trim().parse::<usize>().map_err(wrong)
            };
            value.map(parse).transpose()
        };
        let torchrun = ["RANK", "WORLD_SIZE", "LOCAL_RANK"];
        // SLURM_NTASKS is there inside a batch job without srun as well, where one process runs.
        let srun = ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"];
        let by_srun = number(torchrun[1])?.is_none();
        let names = match by_srun {
            false => torchrun,
            true if number(srun[1])?.is_some() => srun,
            true => return Ok(None),
        };
        let missing = |name| Error::invalid(name, format!("missing beside {}", names[1]));
        let need = |name| number(name)?.ok_or_else(|| missing(name));
        let (rank, size) = (need(names[0])?, need(names[1])?);
        if rank >= size {
            let why = format!("{rank} is not below {}, which is {size}", names[1]);
            return Err(Error::invalid(names[0], why));
        }
        if size == 1 {
            return Ok(None);
        }
        let port = match number("MASTER_PORT")? {
            None if by_srun => {
                // Steps of one job, and jobs that share a node, take other ports.
                let (job, step) = (need("SLURM_JOB_ID")?, need("SLURM_STEP_ID")?);
                15_000 + (job % 10_000 + 1009 * (step % 10_000)) % 10_000
            }
            None => return Err(missing("MASTER_PORT")),
            Some(port) => port,
        };
        let first_node = || get("SLURM_STEP_NODELIST").filter(|_| by_srun);
        let host = get("MASTER_ADDR").or_else(|| first_node().map(|list| first_of(&list)));
        Ok(Some(Self {
            rank,
            size,
            local_rank: number(names[2])?.unwrap_or(rank),
            host: host.unwrap_or_else(|| "127.0.0.1".into()),
            port: (u16::try_from(port))
                .map_err(|_| Error::invalid("MASTER_PORT", format!("{port} is above 65535")))?,
            agent_store: get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|v| v == "True"),
            restart: number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0) as u32,
        }))
    }
}

/// The first name of a list of Slurm's: of `gpu[07-09,12],cpu1` it is `gpu07`.
fn first_of(list: &str) -> String {
    let (mut name, mut inside, mut chosen) = (String::new(), false, false);
    for c in list.chars() {
        match c {
            '[' => (inside, chosen) = (true, false),
            ']' => inside = false,
            ',' if !inside => break,
            '-' | ',' if inside => chosen = true,
            _ if inside && chosen => {}
            _ => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name);
        Launch::from_variables(|name| find(name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn torchrun_and_srun_are_understood() {
        let launch = Launch {
            rank: 3,
            size: 4,
            local_rank: 1,
            host: "node0".into(),
            port: 29500,
            agent_store: true,
            restart: 2,
        };
        let torchrun = read(&[
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "29500"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ]);
        assert_eq!(torchrun.unwrap(), Some(launch.clone()));
        let mut srun = vec![
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "4"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_NODELIST", "node[0-1]"),
            ("SLURM_JOB_ID", "4210012"),
            ("SLURM_STEP_ID", "2"),
        ];
        let by_srun = Launch {
            port: 15_000 + 12 + 2018,
            agent_store: false,
            restart: 0,
            ..launch
        };
        assert_eq!(read(&srun).unwrap(), Some(by_srun.clone()));
        srun.extend([("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")]);
        let elsewhere = Launch {
            host: "10.0.0.1".into(),
            port: 29500,
            ..by_srun
        };
        assert_eq!(read(&srun).unwrap(), Some(elsewhere));
    }

    #[test]
    fn the_first_node_of_a_list() {
        for (list, first) in [
            ("vm", "vm"),
            ("a,b", "a"),
            ("gpu[07-09,12],cpu1", "gpu07"),
            ("r[1-2]n[3,5]-ib,x", "r1n3-ib"),
            ("my-node[4]", "my-node4"),
        ] {
            assert_eq!(first_of(list), first);
        }
    }

    #[test]
    fn alone_is_alone() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        let mut job = vec![("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        assert_eq!(read(&job).unwrap(), None);
        job.push(("SLURM_STEP_NUM_TASKS", "1"));
        assert_eq!(read(&job).unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (variables, expected) in [
            (
                &[("WORLD_SIZE", "2")][..],
                "RANK: missing beside WORLD_SIZE",
            ),
            (
                &[("RANK", "1"), ("WORLD_SIZE", "2")],
                "MASTER_PORT: missing beside WORLD_SIZE",
            ),
            (
                &[("RANK", "2"), ("WORLD_SIZE", "2")],
                "RANK: 2 is not below WORLD_SIZE, which is 2",
            ),
            (
                &[("WORLD_SIZE", "two")],
                "WORLD_SIZE: \"two\" is not a number",
            ),
        ] {
            says(read(variables), expected);
        }
    }
}
