//! Builders of typed columns: one value in, one slot more in each array.
//!
//! A builder takes what its column can give back exactly, and leaves all else to `extra`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Int64Builder, ListArray, NullBufferBuilder,
    StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{FieldRef, Fields};
use crdt::atproto::{Map, Value, datetime, json};

use super::extra::{At, Leftovers, TYPE};
use crate::lexicon::ColumnKind;
use crate::lexicon::columns::{Node, blob_fields, list_item, struct_fields};

/// The array of one column, or of one field of it, as it grows.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Text(StringBuilder),
    Datetime(TimestampMicrosecondBuilder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Bytes(BinaryBuilder),
    CidLink(StringBuilder),
    Blob(Box<BlobBuilder>),
    Json(StringBuilder),
    List(Box<ListBuilder>),
    Struct(StructBuilder),
}

#[derive(Debug)]
pub(super) struct BlobBuilder {
    cid: StringBuilder,
    mime_type: StringBuilder,
    size: Int64Builder,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct ListBuilder {
    item: FieldRef,
    lengths: Vec<usize>,
    valid: NullBufferBuilder,
    items: ColumnBuilder,
}

#[derive(Debug)]
pub(super) struct StructBuilder {
    arrow: Fields,
    properties: Vec<String>,
    fields: Vec<ColumnBuilder>,
    valid: NullBufferBuilder,
}

/// Pushes the fields of a map into their columns, and leaves those that have none. Returns whether any column got a value.
pub(super) fn push_fields<'v>(
    fields: &[(String, Node)],
    map: &'v Map,
    outer: Option<&At<'_>>,
    columns: &mut [ColumnBuilder],
    left: &mut Leftovers<'v>,
) -> bool {
    let mut any = false;
    let mut known = 0;
    for (name, node) in fields {
        let at = At::field(outer, name);
        let value = map.get(name);
        known += usize::from(value.is_some());
        any |= push_node(node, value, &at, columns, left);
    }
    let typed = outer.is_none() && map.contains_key(TYPE);
    if known + usize::from(typed) < map.len() {
        for (name, value) in map.iter() {
            let own_type = outer.is_none() && name == TYPE;
            if !own_type && !fields.iter().any(|(field, _)| field == name) {
                left.leave(&At::field(outer, name), value);
            }
        }
    }
    any
}

fn push_node<'v>(
    node: &Node,
    value: Option<&'v Value>,
    at: &At<'_>,
    columns: &mut [ColumnBuilder],
    left: &mut Leftovers<'v>,
) -> bool {
    match (node, value) {
        (Node::Column(column), Some(value)) => columns[*column].push(value, at, left),
        (Node::Column(column), None) => {
            columns[*column].push_null();
            false
        }
        (Node::Group(fields), Some(Value::Map(map))) => {
            let before = left.len();
            let any = push_fields(fields, map, Some(at), columns, left);
            if !any && let Some(value) = value {
                // No column tells that this object was there, so it stands in `extra` as a whole.
                left.truncate(before);
                left.leave(at, value);
            }
            any
        }
        (Node::Group(fields), value) => {
            for (_, field) in fields {
                push_node(field, None, at, columns, left);
            }
            if let Some(value) = value {
                left.leave(at, value);
            }
            false
        }
    }
}

impl ColumnBuilder {
    pub(super) fn new(kind: &ColumnKind) -> Self {
        match kind {
            ColumnKind::Text => Self::Text(StringBuilder::new()),
            ColumnKind::Datetime => {
                Self::Datetime(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            ColumnKind::Integer => Self::Integer(Int64Builder::new()),
            ColumnKind::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnKind::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnKind::CidLink => Self::CidLink(StringBuilder::new()),
            ColumnKind::Json => Self::Json(StringBuilder::new()),
            ColumnKind::Blob => Self::Blob(Box::new(BlobBuilder {
                cid: StringBuilder::new(),
                mime_type: StringBuilder::new(),
                size: Int64Builder::new(),
                valid: NullBufferBuilder::new(0),
            })),
            ColumnKind::List(items) => Self::List(Box::new(ListBuilder {
                item: list_item(items),
                lengths: Vec::new(),
                valid: NullBufferBuilder::new(0),
                items: Self::new(items),
            })),
            ColumnKind::Struct(fields) => Self::Struct(StructBuilder {
                arrow: struct_fields(fields),
                properties: fields.iter().map(|field| field.property.clone()).collect(),
                fields: fields.iter().map(|field| Self::new(&field.kind)).collect(),
                valid: NullBufferBuilder::new(0),
            }),
        }
    }

    /// Takes `value`, or null and leaves it. Returns whether the column got a value.
    pub(super) fn push<'v>(
        &mut self,
        value: &'v Value,
        at: &At<'_>,
        left: &mut Leftovers<'v>,
    ) -> bool {
        match (&mut *self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Integer(column), Value::Int(int)) => column.append_value(*int),
            (Self::Boolean(column), Value::Bool(bool)) => column.append_value(*bool),
            (Self::Bytes(column), Value::Bytes(bytes)) => column.append_value(bytes),
            (Self::CidLink(column), Value::Link(cid)) => column.append_value(cid.to_string()),
            (Self::Json(column), value) => column.append_value(json::to_text(value)),
            (Self::Datetime(column), Value::Text(text)) => {
                let us = datetime::parse(text).ok();
                column.append_option(us);
                if us.is_none_or(|us| datetime::canonical(us) != *text) {
                    left.leave(at, value);
                }
                return us.is_some();
            }
            (Self::Blob(column), Value::Map(map)) => return column.push(map, value, at, left),
            (Self::List(column), Value::List(items)) => {
                for (number, item) in items.iter().enumerate() {
                    column.items.push(item, &At::item(at, number), left);
                }
                column.lengths.push(items.len());
                column.valid.append_non_null();
            }
            (Self::Struct(column), Value::Map(map)) => column.push(map, at, left),
            _ => {
                self.push_null();
                left.leave(at, value);
                return false;
            }
        }
        true
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Text(column) | Self::CidLink(column) | Self::Json(column) => column.append_null(),
            Self::Datetime(column) => column.append_null(),
            Self::Integer(column) => column.append_null(),
            Self::Boolean(column) => column.append_null(),
            Self::Bytes(column) => column.append_null(),
            Self::Blob(column) => column.push_null(),
            Self::List(column) => {
                column.lengths.push(0);
                column.valid.append_null();
            }
            Self::Struct(column) => {
                column.fields.iter_mut().for_each(Self::push_null);
                column.valid.append_null();
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) | Self::CidLink(column) | Self::Json(column) => {
                Arc::new(column.finish())
            }
            Self::Datetime(column) => Arc::new(column.finish()),
            Self::Integer(column) => Arc::new(column.finish()),
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Bytes(column) => Arc::new(column.finish()),
            Self::Blob(column) => {
                let arrays: Vec<ArrayRef> = vec![
                    Arc::new(column.cid.finish()),
                    Arc::new(column.mime_type.finish()),
                    Arc::new(column.size.finish()),
                ];
                Arc::new(StructArray::new(
                    blob_fields(),
                    arrays,
                    column.valid.finish(),
                ))
            }
            Self::List(column) => {
                let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut column.lengths));
                let items = column.items.finish();
                Arc::new(ListArray::new(
                    Arc::clone(&column.item),
                    offsets,
                    items,
                    column.valid.finish(),
                ))
            }
            Self::Struct(column) => {
                let arrays = column.fields.iter_mut().map(Self::finish).collect();
                Arc::new(StructArray::new(
                    column.arrow.clone(),
                    arrays,
                    column.valid.finish(),
                ))
            }
        }
    }
}

impl BlobBuilder {
    /// Takes a blob that has all of its four fields; what else it has is left.
    fn push<'v>(
        &mut self,
        map: &'v Map,
        value: &'v Value,
        at: &At<'_>,
        left: &mut Leftovers<'v>,
    ) -> bool {
        let is_blob = map.get(TYPE).and_then(Value::as_text) == Some("blob");
        let cid = map.get("ref").and_then(Value::as_link);
        let mime_type = map.get("mimeType").and_then(Value::as_text);
        let size = map.get("size").and_then(Value::as_int);
        let (true, Some(cid), Some(mime_type), Some(size)) = (is_blob, cid, mime_type, size) else {
            self.push_null();
            left.leave(at, value);
            return false;
        };
        self.cid.append_value(cid.to_string());
        self.mime_type.append_value(mime_type);
        self.size.append_value(size);
        self.valid.append_non_null();
        for (name, other) in map
            .iter()
            .filter(|(name, _)| ![TYPE, "ref", "mimeType", "size"].contains(name))
        {
            left.leave(&At::field(Some(at), name), other);
        }
        true
    }

    fn push_null(&mut self) {
        self.cid.append_null();
        self.mime_type.append_null();
        self.size.append_null();
        self.valid.append_null();
    }
}

impl StructBuilder {
    fn push<'v>(&mut self, map: &'v Map, at: &At<'_>, left: &mut Leftovers<'v>) {
        let mut known = 0;
        for (name, field) in self.properties.iter().zip(&mut self.fields) {
            match map.get(name) {
                Some(value) => {
                    known += 1;
                    field.push(value, &At::field(Some(at), name), left);
                }
                None => field.push_null(),
            }
        }
        if known < map.len() {
            for (name, value) in map
                .iter()
                .filter(|(name, _)| !self.properties.iter().any(|known| known == name))
            {
                left.leave(&At::field(Some(at), name), value);
            }
        }
        self.valid.append_non_null();
    }
}
