//! The other end of a WebSocket that repeats what it hears (RFC 6455, part 5).
//!
//! Invariant: a frame goes back with the opcode and end mark that it came with, unmasked; a ping goes back as
//! a pong.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame that is repeated.
const FRAME_MAX: u64 = 1 << 20;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Repeats frames until the client closes.
///
/// # Errors
/// What the stream says; `InvalidData` for a frame of over 1 MiB.
pub(super) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    loop {
        let [first, second] = read(&mut stream).await?;
        let len = length(&mut stream, second & 0x7f).await?;
        let mask: [u8; 4] = if second & 0x80 == 0 { [0; 4] } else { read(&mut stream).await? };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        let opcode = if first & 0x0f == PING { PONG } else { first & 0x0f };
        stream.write_all(&head(first & 0x80 | opcode, payload.len())).await?;
        stream.write_all(&payload).await?;
        stream.flush().await?;
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn length(stream: &mut (impl AsyncRead + Unpin), short: u8) -> io::Result<usize> {
    let len = match short {
        126 => u64::from(u16::from_be_bytes(read(stream).await?)),
        127 => u64::from_be_bytes(read(stream).await?),
        short => u64::from(short),
    };
    let whole = usize::try_from(len).ok().filter(|_| len <= FRAME_MAX);
    whole.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame too long"))
}

fn head(first: u8, len: usize) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(middle)) => {
            head.push(126);
            head.extend(middle.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend((len as u64).to_be_bytes());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = head(first, payload.len());
        frame[1] |= 0x80;
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    #[tokio::test]
    async fn repeats_frames_of_all_lengths_and_closes() {
        let (mut client, server) = tokio::io::duplex(1 << 18);
        let echo = tokio::spawn(echo(server));
        for (len, opcode, back) in
            [(0, 1, 1), (125, 2, 2), (126, 2, 2), (65_535, 2, 2), (65_536, 2, 2), (3, PING, PONG)]
        {
            let payload = vec![7; len];
            client.write_all(&masked(0x80 | opcode, &payload)).await.unwrap();
            let mut answer = vec![0; head(0, len).len() + len];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [head(0x80 | back, len), payload].concat());
        }
        client.write_all(&masked(0x80 | CLOSE, b"")).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [0x80 | CLOSE, 0]);
        echo.await.unwrap().unwrap();
    }
}
