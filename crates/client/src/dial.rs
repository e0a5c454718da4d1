//! Connections to hosts by name. Names are looked up by the host's own configuration, read anew each time: such
//! connections are rare, and networks change. The C library's resolver would load parts of the host into a static
//! program.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use hickory_resolver::TokioResolver;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("lookup {host}: {why}")]
    Lookup { host: String, why: String },
    #[error(transparent)]
    Connect(#[from] io::Error),
}

/// Every address of a host; an address is its own.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, DialError> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let failed = |why: String| DialError::Lookup { host: host.to_owned(), why };
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|why| failed(why.to_string()))?;
    let found = resolver.lookup_ip(host).await.map_err(|why| failed(told(&why)))?;
    Ok(found.iter().collect())
}

/// Names that nobody has are the usual failure, and get the usual words.
fn told(why: &hickory_resolver::net::NetError) -> String {
    if why.is_no_records_found() { "no such host".to_owned() } else { why.to_string() }
}

/// A connection to the first address of a host that takes one.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for ip in resolve(host).await? {
        match TcpStream::connect(SocketAddr::from((ip, port))).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            connect(host, port).await.unwrap();
        }
        assert_eq!(resolve("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        // Reserved for never being there, so that no server is needed to say so.
        let error = resolve("nobody.invalid").await.unwrap_err().to_string();
        assert!(error.starts_with("lookup nobody.invalid: "), "{error}");
        drop(listener);
        let refused = connect("127.0.0.1", port).await.unwrap_err();
        assert!(matches!(&refused, DialError::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused));
    }
}
