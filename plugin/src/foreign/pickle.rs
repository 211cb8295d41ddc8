//! Reads what a pickle describes without executing it. A pickle is a program, and Python's reader calls the functions
//! that it names.
//!
//! Only the contents of state files are read: dictionaries, lists, tuples, texts, numbers, and tensors as `torch.save`
//! writes them. A pickle that names any other class or function, or has any other opcode, is refused, and the error
//! names it. Nothing is ever called. `candle_core::pickle` is not used, since it trusts lengths in the file when it
//! reserves memory.
//!
//! Every opcode makes at most one node, and nodes refer to others by index, so memory is bounded by the length of the
//! pickle.

use std::collections::BTreeMap;

use super::error::{ForeignError, shown};
use super::tensors::Dtype;

/// The longest pickle. It holds names and shapes, but no numbers.
const MAX_BYTES: usize = 4 << 20;

/// The most nodes. A model's state has a few thousand.
const MAX_NODES: usize = 1 << 20;

/// The longest key of a dictionary or a storage, in bytes.
const MAX_KEY: usize = 256;

/// The most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// How deep dictionaries and lists may be nested.
const MAX_DEPTH: usize = 8;

/// The most values in total, including dictionaries and lists. Shared values count each time.
const MAX_VALUES: usize = 1 << 16;

/// A value that is not a dictionary, list or tuple.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Tensor(TensorRef),
    /// A number, a text, or a description.
    Other(String),
}

/// The location of a tensor, counted in numbers of its storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorRef {
    pub(crate) storage: Storage,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// A file of consecutive numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    /// The name of the file that holds them.
    pub(crate) key: String,
    /// `None` if they are not floating-point numbers.
    pub(crate) dtype: Option<Dtype>,
    /// How many there are.
    pub(crate) length: usize,
}

/// An item of the pickle's value, depth first: every leaf under its keys, joined by dots. The tensors of a list of
/// tensors form one item under the name of the list.
#[derive(Debug, PartialEq)]
pub(crate) struct PickleItem {
    pub(crate) name: String,
    pub(crate) value: PickleValue,
}

/// See [`PickleItem`].
#[derive(Debug, PartialEq)]
pub(crate) enum PickleValue {
    Leaf(Leaf),
    /// The tensors of a list, in order.
    Stack(Vec<TensorRef>),
}

/// Reads a pickle.
///
/// # Errors
///
/// The pickle is incomplete or malformed, or has something that no state file has.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<PickleItem>, ForeignError> {
    if bytes.len() > MAX_BYTES {
        return Err(ForeignError::value(
            "pickle",
            format!("{} bytes", bytes.len()),
            format!("at most {MAX_BYTES}"),
        ));
    }
    let mut machine = PickleMachine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    let top = machine.run()?;
    let mut flat = ItemCollector {
        nodes: &machine.nodes,
        values: 0,
        items: Vec::new(),
    };
    flat.add(top, String::new(), 0)?;
    Ok(flat.items)
}

/// The index of a node.
type Id = usize;

#[derive(Clone, Debug)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(TensorRef),
}

/// The classes and functions that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    /// The dataclass of the steering-vectors package, read as its attributes.
    SteeringVector,
    /// `torch.FloatStorage` and so on.
    StorageType(Option<Dtype>),
}

fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("steering_vectors.steering_vector", "SteeringVector") => Global::SteeringVector,
        ("torch", "FloatStorage") => Global::StorageType(Some(Dtype::F32)),
        ("torch", "DoubleStorage") => Global::StorageType(Some(Dtype::F64)),
        ("torch", "HalfStorage") => Global::StorageType(Some(Dtype::F16)),
        ("torch", "BFloat16Storage") => Global::StorageType(Some(Dtype::Bf16)),
        ("torch", "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage") => {
            Global::StorageType(None)
        }
        _ => return None,
    })
}

struct PickleMachine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// The length of the stack at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
}

fn malformed(found: impl ToString, expected: &str) -> ForeignError {
    ForeignError::value("pickle", found, expected)
}

impl<'a> PickleMachine<'a> {
    fn run(&mut self) -> Result<Id, ForeignError> {
        loop {
            match self.u8()? {
                b'.' => return self.pop(),
                _ if self.nodes.len() >= MAX_NODES => {
                    return Err(malformed(format!("{MAX_NODES} values"), "fewer of them"));
                }
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), ForeignError> {
        match opcode {
            // PROTO
            0x80 => match self.u8()? {
                2..=5 => {}
                version => return Err(malformed(format!("protocol {version}"), "2 to 5")),
            },
            // FRAME: its length is not needed.
            0x95 => drop(self.take(8)?),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'K' => {
                let number = self.u8()?;
                self.push(Node::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(number.into()));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(number.into()));
            }
            // LONG1
            0x8a => {
                let length = self.u8()?.into();
                let bytes = self.take(length)?;
                if length > 8 {
                    return Err(malformed(format!("an integer of {length} bytes"), "at most 8"));
                }
                let mut number = [if bytes.last().is_some_and(|last| last & 0x80 != 0) {
                    0xff
                } else {
                    0
                }; 8];
                number[..length].copy_from_slice(bytes);
                self.push(Node::Int(i64::from_le_bytes(number)));
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(number));
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => {
                let length = self.u8()?.into();
                self.text(length)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.text(length)?;
            }
            0x8d => {
                let length = usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX);
                self.text(length)?;
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.pop_marked()?;
                self.push(Node::Tuple(items));
            }
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend_list(items)?;
            }
            b'e' => {
                let items = self.pop_marked()?;
                self.extend_list(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend_dict(&items)?;
            }
            b'u' => {
                let items = self.pop_marked()?;
                self.extend_dict(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let index = self.u8()?.into();
                self.memoize(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?) as usize;
                self.memoize(index)?;
            }
            0x94 => self.memoize(self.memo.len())?,
            // BINGET, LONG_BINGET
            b'h' => {
                let index = self.u8()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?) as usize;
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)?;
            }
            // STACK_GLOBAL
            0x93 => {
                let items = self.pop_many(2)?;
                let (Node::Text(module), Node::Text(name)) = (&self.nodes[items[0]], &self.nodes[items[1]]) else {
                    return Err(malformed("a global whose name is not a text", "two texts"));
                };
                let (module, name) = (module.clone(), name.clone());
                self.push_global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Node::Storage(storage));
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let items = self.pop_many(2)?;
                self.make(items[0], items[1])?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            other => {
                let expected = "only the opcodes of a state file of tensors: a pickle is a program, which isn't run";
                return Err(malformed(format!("the opcode 0x{other:02x}"), expected));
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ForeignError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = left.get(..length) else {
            return Err(ForeignError::Short {
                field: "pickle".to_string(),
                found: left.len() as u64,
                expected: length as u64,
            });
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ForeignError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, ForeignError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn utf8(&mut self, length: usize) -> Result<&'a str, ForeignError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| malformed("bytes that are not UTF-8", "a text"))
    }

    fn text(&mut self, length: usize) -> Result<(), ForeignError> {
        let text = self.utf8(length)?.to_string();
        self.push(Node::Text(text));
        Ok(())
    }

    /// Reads to the end of the line.
    fn line(&mut self) -> Result<&'a str, ForeignError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let length = left.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| malformed("a name without an end", "a line"))?;
        let line = self.utf8(length)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    /// The number of values on the stack above the last mark.
    fn above(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, ForeignError> {
        if self.above() < count {
            return Err(malformed(
                format!("{} values", self.above()),
                "more of them before the opcode",
            ));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop(&mut self) -> Result<Id, ForeignError> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_marked(&mut self) -> Result<Vec<Id>, ForeignError> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| malformed("no mark", "one before the opcode"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Node, ForeignError> {
        let top = self.stack.last().copied().filter(|_| self.above() > 0);
        let top = top.ok_or_else(|| malformed("an empty stack", "a value before the opcode"))?;
        Ok(&mut self.nodes[top])
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), ForeignError> {
        match self.top()? {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(malformed("values added to something other than a list", "a list")),
        }
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), ForeignError> {
        let (pairs, left) = items.as_chunks::<2>();
        match self.top()? {
            Node::Dict(dict) if left.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err(malformed(
                "entries added to something other than a dictionary, or half an entry",
                "a dictionary",
            )),
        }
    }

    fn memoize(&mut self, index: usize) -> Result<(), ForeignError> {
        let above = self.above();
        let top = self.stack.last().filter(|_| above > 0);
        let top = *top.ok_or_else(|| malformed("an empty stack", "a value to remember"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), ForeignError> {
        let id = self
            .memo
            .get(&index)
            .ok_or_else(|| malformed(format!("a reference to {index}"), "a value before it"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), ForeignError> {
        let Some(global) = global(module, name) else {
            let expected = if module.starts_with("numpy") {
                "tensors: arrays of NumPy in a pickle are not read (save them with numpy.savez, or as tensors)"
            } else {
                "a state file of tensors alone, as torch.save writes dictionaries and lists of tensors: a pickle is a \
                 program, which isn't run"
            };
            return Err(malformed(shown(&format!("{module}.{name}")), expected));
        };
        self.push(Node::Global(global));
        Ok(())
    }

    /// A persistent id: `('storage', type, key, device, length)`.
    fn storage(&self, id: Id) -> Result<Storage, ForeignError> {
        let wrong = || {
            malformed(
                "a persistent id of another form",
                "('storage', type, key, device, length)",
            )
        };
        let Node::Tuple(items) = &self.nodes[id] else {
            return Err(wrong());
        };
        let [kind, dtype, key, _, length] = items[..] else {
            return Err(wrong());
        };
        match (
            &self.nodes[kind],
            &self.nodes[dtype],
            &self.nodes[key],
            self.count(length),
        ) {
            (Node::Text(kind), Node::Global(Global::StorageType(dtype)), Node::Text(key), Some(length))
                if kind == "storage" && key.len() <= MAX_KEY =>
            {
                Ok(Storage {
                    key: key.clone(),
                    dtype: *dtype,
                    length,
                })
            }
            _ => Err(wrong()),
        }
    }

    fn count(&self, id: Id) -> Option<usize> {
        match self.nodes[id] {
            Node::Int(number) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    fn counts(&self, id: Id) -> Option<Vec<usize>> {
        match &self.nodes[id] {
            Node::Tuple(items) if items.len() <= MAX_DIMENSIONS => items.iter().map(|item| self.count(*item)).collect(),
            _ => None,
        }
    }

    /// Replaces a call by the value that it would return.
    fn make(&mut self, function: Id, arguments: Id) -> Result<(), ForeignError> {
        let wrong = || malformed("a call of another form", "a call that tensors are saved with");
        let (Node::Global(function), Node::Tuple(arguments)) = (&self.nodes[function], &self.nodes[arguments]) else {
            return Err(wrong());
        };
        let made = match (function, &arguments[..]) {
            (Global::OrderedDict | Global::SteeringVector, []) => Node::Dict(Vec::new()),
            // storage, offset, size, stride, requires_grad, hooks, and at times metadata
            (
                Global::RebuildTensor,
                [storage, offset, shape, strides, _, _] | [storage, offset, shape, strides, _, _, _],
            ) => {
                let numbers = (self.count(*offset), self.counts(*shape), self.counts(*strides));
                let (Node::Storage(storage), (Some(offset), Some(shape), Some(strides))) =
                    (&self.nodes[*storage], numbers)
                else {
                    return Err(wrong());
                };
                Node::Tensor(TensorRef {
                    storage: storage.clone(),
                    offset,
                    shape,
                    strides,
                })
            }
            // data, requires_grad, hooks
            (Global::RebuildParameter, [data, _, _]) => match &self.nodes[*data] {
                Node::Tensor(tensor) => Node::Tensor(tensor.clone()),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        self.push(made);
        Ok(())
    }

    /// The attributes of an object: the entries of a dataclass. Those of a state's dictionary are not needed.
    fn build(&mut self, state: Id) -> Result<(), ForeignError> {
        let Node::Dict(attributes) = &mut self.nodes[state] else {
            return Err(malformed("attributes that are not a dictionary", "a dictionary"));
        };
        // Moved, not copied: a pickle could otherwise cause many copies of a large value.
        let attributes = std::mem::take(attributes);
        match self.top()? {
            Node::Dict(dict) => {
                dict.extend(attributes);
                Ok(())
            }
            _ => Err(malformed(
                "attributes of a value that has none",
                "a dictionary or a SteeringVector",
            )),
        }
    }
}

/// Collects the items from the pickle's final value.
struct ItemCollector<'a> {
    nodes: &'a [Node],
    /// How many values have been visited.
    values: usize,
    items: Vec<PickleItem>,
}

impl ItemCollector<'_> {
    fn add(&mut self, id: Id, name: String, depth: usize) -> Result<(), ForeignError> {
        self.count(1, depth)?;
        let nodes = self.nodes;
        let leaf = match &nodes[id] {
            Node::Dict(entries) => {
                for (key, value) in entries {
                    let key = match &nodes[*key] {
                        Node::Text(text) if text.len() <= MAX_KEY => text.clone(),
                        Node::Int(number) => number.to_string(),
                        _ => {
                            let expected = format!("a text of at most {MAX_KEY} bytes, or a whole number");
                            return Err(malformed("a key of another kind", &expected));
                        }
                    };
                    // The versions of modules that `state_dict` writes.
                    if key == "_metadata" {
                        continue;
                    }
                    let within = if name.is_empty() { key } else { format!("{name}.{key}") };
                    self.add(*value, within, depth + 1)?;
                }
                return Ok(());
            }
            Node::List(list) | Node::Tuple(list) => {
                self.count(list.len(), depth)?;
                let tensors = list.iter().map(|item| match &nodes[*item] {
                    Node::Tensor(tensor) => Some(tensor.clone()),
                    _ => None,
                });
                match tensors.collect::<Option<Vec<_>>>() {
                    Some(tensors) if !tensors.is_empty() => {
                        self.items.push(PickleItem {
                            name,
                            value: PickleValue::Stack(tensors),
                        });
                    }
                    _ => {
                        for (index, item) in list.iter().enumerate() {
                            self.add(*item, format!("{name}[{index}]"), depth + 1)?;
                        }
                    }
                }
                return Ok(());
            }
            Node::Tensor(tensor) => Leaf::Tensor(tensor.clone()),
            Node::Int(number) => Leaf::Other(number.to_string()),
            Node::Float(number) => Leaf::Other(number.to_string()),
            Node::Text(text) => Leaf::Other(text.chars().take(MAX_KEY).collect()),
            Node::None => Leaf::Other("None".to_string()),
            Node::Bool(value) => Leaf::Other(value.to_string()),
            Node::Global(_) | Node::Storage(_) => Leaf::Other("a class".to_string()),
        };
        self.items.push(PickleItem {
            name,
            value: PickleValue::Leaf(leaf),
        });
        Ok(())
    }

    fn count(&mut self, values: usize, depth: usize) -> Result<(), ForeignError> {
        self.values = self.values.saturating_add(values);
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            let expected = format!("at most {MAX_VALUES}, and {MAX_DEPTH} levels of them");
            return Err(malformed("too many nested values", &expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
