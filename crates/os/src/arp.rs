//! Gratuitous ARP: tells everyone on a link who has an address from now on. Source: RFC 826, RFC 5227.

use std::{
    io,
    mem::size_of,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
};

use nix::{
    libc::{self, sockaddr_ll},
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket},
};

use crate::net::Mac;

const ETHERNET: u16 = 1;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const BROADCAST: [u8; 6] = [0xff; 6];

/// Says on a link that `ip` is at `mac`, as a question and as an answer: some hosts heed only the one, some the other.
pub fn announce(link: u32, mac: Mac, ip: Ipv4Addr) -> io::Result<()> {
    // Protocol 0: it sends, and hears nothing.
    let socket: OwnedFd = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let everyone = link_address(link, BROADCAST)?;
    for operation in [REQUEST, REPLY] {
        sendto(socket.as_raw_fd(), &message(operation, mac, ip), &everyone, MsgFlags::MSG_DONTWAIT)?;
    }
    Ok(())
}

fn message(operation: u16, mac: Mac, ip: Ipv4Addr) -> [u8; 28] {
    let mut message = [0; 28];
    message[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
    message[2..4].copy_from_slice(&IPV4.to_be_bytes());
    message[4..6].copy_from_slice(&[6, 4]);
    message[6..8].copy_from_slice(&operation.to_be_bytes());
    message[8..14].copy_from_slice(&mac.0);
    message[14..18].copy_from_slice(&ip.octets());
    message[18..24].copy_from_slice(&BROADCAST);
    message[24..28].copy_from_slice(&ip.octets());
    message
}

fn link_address(link: u32, mac: [u8; 6]) -> io::Result<LinkAddr> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&mac);
    let raw = sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ARP.to_be(),
        sll_ifindex: link as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    };
    // SAFETY: the pointer is to a whole `sockaddr_ll` that says so, of the length given, and it is copied.
    let address = unsafe { LinkAddr::from_raw(ptr::from_ref(&raw).cast(), Some(size_of::<sockaddr_ll>() as u32)) };
    address.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
