//! WASI with nothing in it. The runtimes of most languages import a dozen interfaces whether they use them or not; all that
//! is harmless answers here, everything else of an allowed interface traps, and other interfaces were refused by
//! [`inspect`](crate::inspect()).
//!
//! Invariant: deterministic. Clocks stand at the moment of the evaluation, random numbers start from the facts' digest.
//! Invariant: nothing waits. A pollable is always ready, since the clock that it waits for stands still: a plugin that sleeps
//! in a loop runs into its time limit instead of blocking a thread that no epoch can reach.

use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Val};
use wasmtime::{Error, Result, StoreContextMut};

use super::{CallState, LogLevel};
use crate::interface;

/// The most random bytes of one call of the function that gives them.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// What `check-write` allows to be written at once.
const WRITE_BYTES: u64 = 64 << 10;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

struct Input;
struct Output;
struct Pollable;
/// Of resources that nobody ever gets.
struct Absent;

type Answer = fn(&mut StoreContextMut<'_, CallState>, Arguments<'_>) -> Result<Option<Val>>;

/// The arguments of a call. Handles among them were let go already, as the component model wants of the callee.
struct Arguments<'a> {
    /// Which output stream the call is about.
    stream: Option<u32>,
    values: &'a [Val],
}

/// Defines every WASI import of `component`.
pub(crate) fn link(linker: &mut Linker<CallState>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    for (name, import) in ty.imports(&engine) {
        let (Some(path), ComponentItem::ComponentInstance(interface)) =
            (interface::wasi_path(name), &import.ty)
        else {
            continue;
        };
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => define(&mut instance, path, item)?,
                ComponentItem::Resource(_) => {
                    instance.resource(item, resource(item), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn resource(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<Input>(),
        "output-stream" => ResourceType::host::<Output>(),
        "pollable" => ResourceType::host::<Pollable>(),
        _ => ResourceType::host::<Absent>(),
    }
}

fn define(instance: &mut LinkerInstance<'_, CallState>, path: &str, function: &str) -> Result<()> {
    let answer = answer(path, function);
    let name = format!("{path}.{function}");
    instance.func_new(
        function,
        move |mut store: StoreContextMut<'_, CallState>,
              _: types::ComponentFunc,
              arguments: &[Val],
              results: &mut [Val]| {
            store.data_mut().charge()?;
            let Some(answer) = answer else {
                return Err(Error::msg(format!("`{name}` is not there for a policy")));
            };
            let mut stream = None;
            for argument in arguments {
                stream = let_go(&mut store, argument)?.or(stream);
            }
            let arguments = Arguments { stream, values: arguments };
            if let (Some(value), Some(slot)) = (answer(&mut store, arguments)?, results.first_mut()) {
                *slot = value;
            }
            Ok(())
        },
    )
}

/// Lets go of the handles in an argument; of an output stream its number is returned.
fn let_go(store: &mut StoreContextMut<'_, CallState>, argument: &Val) -> Result<Option<u32>> {
    match argument {
        Val::Resource(handle) if handle.ty() == ResourceType::host::<Output>() => {
            let stream: Resource<Output> = handle.try_into_resource(&mut *store)?;
            Ok(Some(stream.rep()))
        }
        Val::Resource(handle) => handle.resource_drop(&mut *store).map(|()| None),
        Val::List(list) if matches!(list.first(), Some(Val::Resource(_))) => {
            list.iter().try_fold(None, |stream, one| Ok(let_go(&mut *store, one)?.or(stream)))
        }
        _ => Ok(None),
    }
}

fn answer(path: &str, function: &str) -> Option<Answer> {
    let (_, interface) = path.split_once('/')?;
    Some(match (interface, function) {
        ("environment", "get-environment" | "get-arguments") | ("preopens", "get-directories") => {
            |_, _| Ok(Some(Val::List(Vec::new())))
        }
        ("environment", "initial-cwd") => |_, _| Ok(Some(Val::Option(None))),
        ("terminal-stdin" | "terminal-stdout" | "terminal-stderr", _) => |_, _| Ok(Some(Val::Option(None))),
        ("exit", _) => |_, _| Err(Error::msg("the plugin called `exit`")),
        ("stdin", "get-stdin") => |store, _| own(store, Resource::<Input>::new_own(0)),
        ("stdout", "get-stdout") => |store, _| own(store, Resource::<Output>::new_own(STDOUT)),
        ("stderr", "get-stderr") => |store, _| own(store, Resource::<Output>::new_own(STDERR)),
        ("wall-clock", "now") => |store, _| Ok(Some(datetime(store.data().now_ms()))),
        ("wall-clock", "resolution") => |_, _| Ok(Some(datetime(1))),
        ("monotonic-clock", "now") => {
            |store, _| Ok(Some(Val::U64(store.data().now_ms().saturating_mul(1_000_000))))
        }
        ("monotonic-clock", "resolution") => |_, _| Ok(Some(Val::U64(1_000_000))),
        ("monotonic-clock", "subscribe-instant" | "subscribe-duration")
        | ("streams", "[method]input-stream.subscribe" | "[method]output-stream.subscribe") => {
            |store, _| own(store, Resource::<Pollable>::new_own(0))
        }
        ("poll", "[method]pollable.ready") => |_, _| Ok(Some(Val::Bool(true))),
        ("poll", "[method]pollable.block") => |_, _| Ok(None),
        ("poll", "poll") => |_, arguments| {
            let Some(Val::List(list)) = arguments.values.first() else { return Err(unexpected()) };
            Ok(Some(Val::List((0u32..).zip(list).map(|(index, _)| Val::U32(index)).collect())))
        },
        ("random" | "insecure", "get-random-bytes" | "get-insecure-random-bytes") => random_bytes,
        ("random" | "insecure", "get-random-u64" | "get-insecure-random-u64") => {
            |store, _| Ok(Some(Val::U64(store.data_mut().random())))
        }
        ("insecure-seed", _) => |store, _| {
            let state = store.data_mut();
            Ok(Some(Val::Tuple(vec![Val::U64(state.random()), Val::U64(state.random())])))
        },
        ("streams", _) => return stream(function),
        _ => return None,
    })
}

/// Input has ended; output goes to the log.
fn stream(function: &str) -> Option<Answer> {
    Some(match function {
        "[method]input-stream.read"
        | "[method]input-stream.blocking-read"
        | "[method]input-stream.skip"
        | "[method]input-stream.blocking-skip" => {
            |_, _| Ok(Some(Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None)))))))
        }
        "[method]output-stream.check-write" => {
            |_, _| Ok(Some(Val::Result(Ok(Some(Box::new(Val::U64(WRITE_BYTES)))))))
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => write,
        "[method]output-stream.flush"
        | "[method]output-stream.blocking-flush"
        | "[method]output-stream.write-zeroes"
        | "[method]output-stream.blocking-write-zeroes-and-flush" => |_, _| Ok(Some(Val::Result(Ok(None)))),
        _ => return None,
    })
}

fn write(store: &mut StoreContextMut<'_, CallState>, arguments: Arguments<'_>) -> Result<Option<Val>> {
    let Some(Val::List(bytes)) = arguments.values.last() else { return Err(unexpected()) };
    let level = if arguments.stream == Some(STDOUT) { LogLevel::Info } else { LogLevel::Warn };
    let bytes: Vec<u8> =
        bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    store.data_mut().log.write_stream(level, &bytes);
    Ok(Some(Val::Result(Ok(None))))
}

fn random_bytes(store: &mut StoreContextMut<'_, CallState>, arguments: Arguments<'_>) -> Result<Option<Val>> {
    let Some(Val::U64(len)) = arguments.values.first() else { return Err(unexpected()) };
    if *len > MAX_RANDOM_BYTES {
        return Err(Error::msg(format!("{len} random bytes at once, at most {MAX_RANDOM_BYTES}")));
    }
    let state = store.data_mut();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < *len {
        bytes.extend(state.random().to_le_bytes().map(Val::U8));
    }
    bytes.truncate(usize::try_from(*len)?);
    Ok(Some(Val::List(bytes)))
}

fn own<T: 'static>(store: &mut StoreContextMut<'_, CallState>, resource: Resource<T>) -> Result<Option<Val>> {
    Ok(Some(Val::Resource(ResourceAny::try_from_resource(resource, &mut *store)?)))
}

fn datetime(ms: u64) -> Val {
    let nanoseconds = u32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    Val::Record(vec![
        ("seconds".to_owned(), Val::U64(ms / 1_000)),
        ("nanoseconds".to_owned(), Val::U32(nanoseconds)),
    ])
}

fn unexpected() -> Error {
    Error::msg("arguments are not those of WASI 0.2")
}
