//! Reading many sessions in the order of their names: each keyspace is gone through once.
//!
//! Invariant: what is read is as it was when the reading began, or later where nobody has written it since.

use super::{Disk, DiskError, Lead, damaged};

/// What is there of sessions, read in the order of their names.
pub(in crate::store) struct InOrder<'a> {
    disk: &'a Disk,
    leads: Ahead<'a>,
    sessions: Ahead<'a>,
    clocks: Ahead<'a>,
}

impl InOrder<'_> {
    /// As [`Disk::find`].
    pub(in crate::store) fn find<T>(
        &mut self,
        name: [u8; 8],
        look: impl FnOnce(Lead<'_>, &[u8], Option<&[u8]>) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let missing = || damaged(&self.disk.path, "a record is missing");
        let lead = self.leads.at(name)?.ok_or_else(missing)?;
        let record = self.sessions.at(name)?.ok_or_else(missing)?;
        look(self.disk.lead(lead)?, record, self.clocks.at(name)?)
    }
}

/// Values by their names, and the next one of them.
struct Ahead<'a> {
    values: Box<dyn Iterator<Item = Named> + 'a>,
    next: Option<([u8; 8], fjall::Slice)>,
}

type Named = Result<([u8; 8], fjall::Slice), DiskError>;

impl<'a> Ahead<'a> {
    fn of(values: Box<dyn Iterator<Item = Named> + 'a>) -> Self {
        Self { values, next: None }
    }

    /// The value of `name`, if there is one; those of lower names are skipped.
    fn at(&mut self, name: [u8; 8]) -> Result<Option<&[u8]>, DiskError> {
        while self.next.as_ref().is_none_or(|(next, _)| *next < name) {
            match self.values.next().transpose()? {
                Some(next) => self.next = Some(next),
                None => return Ok(None),
            }
        }
        Ok(self.next.as_ref().filter(|(next, _)| *next == name).map(|(_, value)| &value[..]))
    }
}

impl Disk {
    /// Reads what is there of sessions, of each name only after all lower ones.
    pub(in crate::store) fn in_order(&self, from: [u8; 8]) -> InOrder<'_> {
        let values = |keyspace| Ahead::of(Box::new(self.values(keyspace, &from, &[0xff; 8])));
        InOrder {
            disk: self,
            leads: values(&self.leads),
            sessions: values(&self.sessions),
            clocks: values(&self.clocks),
        }
    }
}
