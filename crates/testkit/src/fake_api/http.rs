//! As much of HTTP/1.1 as an API client speaks: requests with a length or in chunks, answers with a length or as a
//! stream that ends with the connection.

use std::io::{self, BufRead, Read, Write};

/// Nobody sends more to a fake.
const LARGEST_BODY_BYTES: usize = 64 << 20;

#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The next request on the connection; `None` when the client has closed it.
pub(super) fn read_request(stream: &mut (impl BufRead + Write)) -> io::Result<Option<(Head, Vec<u8>)>> {
    let Some(head) = read_head(stream)? else {
        return Ok(None);
    };
    if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let chunked = head.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    let body = if chunked {
        read_chunks(stream)?
    } else {
        let length = head.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        read_exactly(stream, length)?
    };
    Ok(Some((head, body)))
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let request_line = read_line(stream)?;
    if request_line.is_empty() {
        return Ok(None);
    }
    let mut words = request_line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, request_line));
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(Some(Head { method, path, headers }))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.by_ref().take(1 << 16).read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn read_exactly(stream: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    if length > LARGEST_BODY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a body of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        body.extend(read_exactly(stream, size)?);
        let end = read_line(stream)?;
        if size == 0 || !end.is_empty() || body.len() > LARGEST_BODY_BYTES {
            return Ok(body);
        }
    }
}

/// A whole answer; the connection stays open for the next request.
pub(super) fn write_answer(
    stream: &mut impl Write,
    status: u16,
    headers: &[(String, String)],
    body: &str,
    with_body: bool,
) -> io::Result<()> {
    let mut answer = format!("HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\n", reason(status));
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    if with_body {
        answer.push_str(body);
    }
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

/// The beginning of a stream of events. It ends when the connection does.
pub(super) fn begin_stream(stream: &mut impl Write, request_id: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
         request-id: {request_id}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        529 => "Overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn request(text: &str) -> Option<(Head, Vec<u8>)> {
        read_request(&mut Cursor::new(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_body_with_a_length_is_read() {
        let (head, body) = request("POST /v1/messages?beta=true HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\"\"}").unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/v1/messages?beta=true"));
        assert_eq!(body, b"{\"\"}");
    }

    #[test]
    fn a_body_in_chunks_is_read() {
        let text = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(request(text).unwrap().1, b"abcde");
    }

    #[test]
    fn a_closed_connection_is_no_request() {
        assert!(request("").is_none());
    }
}
