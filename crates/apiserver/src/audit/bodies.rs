//! Bodies on their way past the log.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::record::{Record, Running};
use crate::contract::Body;

/// A request's body, of which the record keeps a copy.
pub struct Overheard {
    pub body: Body,
    pub record: Arc<Record>,
}

type Step = Poll<Option<Result<Frame<Bytes>, <Body as http_body::Body>::Error>>>;

impl http_body::Body for Overheard {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        let step = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &step
            && let Some(data) = frame.data_ref()
        {
            self.record.overhear(data);
        }
        step
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that goes on, and whose record ends with it.
pub struct Lasting {
    pub body: Body,
    pub _running: Running,
}

impl http_body::Body for Lasting {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer whose beginning was read already.
pub struct Continued {
    pub first: Option<Bytes>,
    pub rest: Body,
}

impl http_body::Body for Continued {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}
