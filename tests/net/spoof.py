"""Frames that a port must not send.  usage: spoof.py IF OWN_MAC OWN_IP OWN_IP6 VICTIM_MAC VICTIM_IP VICTIM_IP6 KIND"""
import socket
import struct
import sys

dev, mac, ip, ip6, vmac, vip, vip6, kind = sys.argv[1:9]
mac, vmac = (bytes.fromhex(m.replace(":", "")) for m in (mac, vmac))
ip, vip = socket.inet_aton(ip), socket.inet_aton(vip)
ip6, vip6 = (socket.inet_pton(socket.AF_INET6, a) for a in (ip6, vip6))
bcast = b"\xff" * 6
lla = b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
vlla = b"\xfe\x80" + bytes(6) + bytes([vmac[0] ^ 2]) + vmac[1:3] + b"\xff\xfe" + vmac[3:]
allnodes = socket.inet_pton(socket.AF_INET6, "ff02::1")


def csum(d):
    d += b"\0" * (len(d) & 1)
    s = sum(struct.unpack("!%dH" % (len(d) // 2), d))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def eth(src, dst, proto, body):
    return dst + src + struct.pack("!H", proto) + body


def ip4(src, dst, proto, body):
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0, src, dst)
    return h[:10] + struct.pack("!H", csum(h)) + h[12:] + body


def ipv6(src, dst, nh, body, hops=255):
    return struct.pack("!IHBB16s16s", 6 << 28, len(body), nh, hops, src, dst) + body


def icmp6(src, dst, body):
    pseudo = src + dst + struct.pack("!IHBB", len(body), 0, 0, 58)
    return ipv6(src, dst, 58, body[:2] + struct.pack("!H", csum(pseudo + body)) + body[4:])


def udp(sport, dport, body):
    return struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body


def arp(op, sha, spa, tha, tpa):
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, op, sha, spa, tha, tpa)


def bootp(op, chaddr, msg):
    return struct.pack("!BBBBIHH4s4s4s4s16s192x", op, 1, 6, 0, 7, 0, 0x8000, bytes(4), bytes(4), bytes(4), bytes(4),
                       chaddr + bytes(10)) + b"\x63\x82\x53\x63\x35\x01" + bytes([msg, 255])


ra = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
frames = {
    "mac": eth(vmac, bcast, 0x800, ip4(ip, vip, 17, udp(1, 1, b"x"))),
    "ip": eth(mac, vmac, 0x800, ip4(vip, vip, 17, udp(1, 1, b"x"))),
    "ip-gateway": eth(mac, bcast, 0x800, ip4(socket.inet_aton("10.0.0.1"), vip, 17, udp(1, 1, b"x"))),
    "ip6": eth(mac, vmac, 0x86DD, ipv6(vip6, vip6, 17, udp(1, 1, b"x"))),
    "ip6-lla": eth(mac, vmac, 0x86DD, ipv6(vlla, allnodes, 17, udp(1, 1, b"x"))),
    "arp-ip": eth(mac, bcast, 0x806, arp(2, mac, vip, bcast, vip)),
    "arp-mac": eth(mac, bcast, 0x806, arp(2, vmac, ip, bcast, vip)),
    "nd": eth(mac, vmac, 0x86DD, icmp6(ip6, allnodes, struct.pack("!BBHI16s", 136, 0, 0, 1 << 29, vip6) + b"\2\1" + mac)),
    "nd-dad": eth(mac, vmac, 0x86DD, icmp6(bytes(16), allnodes, struct.pack("!BBHI16s", 135, 0, 0, 0, vip6))),
    "nd-fragment": eth(mac, vmac, 0x86DD, ipv6(ip6, allnodes, 44, struct.pack("!BBHI", 58, 0, 1, 9) + ra)),
    "ra": eth(mac, bcast, 0x86DD, icmp6(lla, allnodes, ra)),
    "ra-behind-header": eth(mac, bcast, 0x86DD, ipv6(lla, allnodes, 60, struct.pack("!BB6x", 58, 0) + ra)),
    "redirect": eth(mac, vmac, 0x86DD, icmp6(lla, vip6, struct.pack("!BBHI16s16s", 137, 0, 0, 0, ip6, vip6))),
    "dhcp-server": eth(mac, bcast, 0x800, ip4(ip, b"\xff" * 4, 17, udp(67, 68, bootp(2, vmac, 2)))),
    "dhcp-chaddr": eth(mac, bcast, 0x800, ip4(bytes(4), b"\xff" * 4, 17, udp(68, 67, bootp(1, vmac, 1)))),
    "dhcp6-server": eth(mac, bcast, 0x86DD, ipv6(lla, vlla, 17, udp(547, 546, b"\x02\x01\x02\x03"))),
    "vlan": eth(mac, bcast, 0x8100, struct.pack("!HH", 5, 0x800) + ip4(ip, vip, 17, udp(1, 1, b"x"))),
    "other": eth(mac, bcast, 0x88CC, b"\x02\x07\x04" + mac + bytes(40)),
    "good": eth(mac, vmac, 0x800, ip4(ip, vip, 17, udp(4242, 4242, b"good"))),
}
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((dev, 0))
for _ in range(3):
    s.send(frames[kind])
