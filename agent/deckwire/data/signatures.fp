; TCP signatures of today's systems, in the format of p0f v3.
;
; SPDX-License-Identifier: Apache-2.0
;
; Written for Deckwire. Where the facts come from: default stack parameters (initial window, option
; order, window scale, TTL, IP id and don't-fragment policy) of the systems named, SYNs and SYN-ACKs
; captured from them, and labelled TCP fingerprints published as data. Version ranges are those
; in which the default was seen; a system with other settings falls to the generic rules.
;
; sig = ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass      (docs/systems.md)

classes = win,unix,other

[mtu]

label = Ethernet or modem
sig = 1500
sig = 576

label = jumbo Ethernet
sig = 9000
sig = 9001

label = cloud network
sig = 1460
sig = 8896

label = DSL or PPPoE
sig = 1492
sig = 1454
sig = 1452

label = generic tunnel or VPN
sig = 1300
sig = 1340
sig = 1350
sig = 1380
sig = 1390
sig = 1400
sig = 1406
sig = 1440

label = WireGuard
sig = 1420
sig = 1412

label = VXLAN or Geneve
sig = 1450
sig = 8950

label = GRE or IPsec
sig = 1476
sig = 1472

label = IP in IP or 6in4
sig = 1480

label = PPTP
sig = 1490

label = smallest IPv6 link or tunnel
sig = 1280

label = loopback
sig = 65535
sig = 16384
sig = 16436

; ------------------------------------------------------------------------------------------------
; SYN
; ------------------------------------------------------------------------------------------------

[tcp:request]

; --- Linux: the window is a whole number of segments, and the number shows the generation. From
; 4.20 on it is as many as fit into 64 KB, hence several numbers for several MTUs.

label = s:unix:Linux:5.x-6.x
sig = *:64:0:*:mss*44,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*45,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*46,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*47,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*48,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*49,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*50,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*51,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:mss*52,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:8960:mss*7,*:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:8961:mss*7,*:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:*:mss*44,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*45,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*46,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*47,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*48,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*49,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*50,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*51,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*52,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:5.x-6.x (no timestamps)
sig = *:64:0:*:mss*44,*:mss,nop,nop,sok,nop,ws:df,id+:0
sig = *:64:0:*:mss*45,*:mss,nop,nop,sok,nop,ws:df,id+:0
sig = *:64:0:*:mss*46,*:mss,nop,nop,sok,nop,ws:df,id+:0
sig = 6:64:0:*:mss*45,*:mss,nop,nop,sok,nop,ws:flow:0

label = s:unix:Linux:5.x-6.x (loopback)
sig = *:64:0:65495:mss*1,*:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:65475:mss*1,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:3.11-4.19
sig = *:64:0:*:mss*20,*:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:*:mss*20,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:3.x
sig = *:64:0:*:mss*10,*:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:*:mss*10,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:2.4-2.6
sig = *:64:0:*:mss*4,*:mss,sok,ts,nop,ws:df,id+:0

label = s:unix:Linux:4.x-6.x (Android or large buffers)
sig = *:64:0:*:65535,6:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:65535,7:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:65535,8:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:65535,9:mss,sok,ts,nop,ws:df,id+:0
sig = *:64:0:*:65535,10:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:*:65535,6:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:65535,7:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:65535,8:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:65535,9:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:65535,10:mss,sok,ts,nop,ws:flow:0

label = g:unix:Linux:
sig = *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0
sig = 6:64:0:*:*,*:mss,sok,ts,nop,ws:flow:0

label = g:unix:Linux:(no timestamps)
sig = *:64:0:*:*,*:mss,nop,nop,sok,nop,ws:df,id+:0
sig = 6:64:0:*:*,*:mss,nop,nop,sok,nop,ws:flow:0

; --- Windows

label = s:win:Windows:10/11
sig = *:128:0:*:mss*44,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*45,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*46,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*47,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*48,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,8:mss,nop,ws,sok,ts:df,id+:0
sig = *:128:0:*:mss*44,8:mss,nop,ws,sok,ts:df,id+:0
sig = 6:128:0:*:mss*45,8:mss,nop,ws,nop,nop,sok:flow:0
sig = 6:128:0:*:65535,8:mss,nop,ws,nop,nop,sok:flow:0

label = s:win:Windows:7-8.1
sig = *:128:0:*:8192,2:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:8192,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:8192,2:mss,nop,ws,sok,ts:df,id+:0
sig = *:128:0:*:8192,8:mss,nop,ws,sok,ts:df,id+:0
sig = *:128:0:*:8192,0:mss,nop,nop,sok:df,id+:0

label = s:win:Windows:XP or 2003
sig = *:128:0:*:16384,0:mss,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,0:mss,nop,nop,sok:df,id+:0
sig = *:128:0:*:64512,0:mss,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,0:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,1:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,2:mss,nop,ws,nop,nop,sok:df,id+:0

label = g:win:Windows:
sig = *:128:0:*:*,*:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:*,*:mss,nop,nop,sok:df,id+:0
sig = *:128:0:*:*,*:mss,nop,ws,sok,ts:df,id+:0
sig = 6:128:0:*:*,*:mss,nop,ws,nop,nop,sok:flow:0

; --- Apple: one order of options since Mac OS X, the IP id zero in later versions

label = s:unix:macOS/iOS:(before 10.9)
sig = *:64:0:*:65535,1:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0
sig = *:64:0:*:65535,3:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0

label = s:unix:macOS/iOS:(10.9-10.11, iOS 7-9)
sig = *:64:0:*:65535,4:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0

label = s:unix:macOS/iOS:(10.11 or newer, iOS 9 or newer)
sig = *:64:0:*:65535,5:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0
sig = *:64:0:*:65535,5:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0
sig = *:64:0:*:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0
sig = *:64:0:*:65535,7:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0
sig = 4:64:0:*:65535,5:mss,nop,ws,nop,nop,ts,sok,eol+1:df,ecn:0
sig = 4:64:0:*:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:df,ecn:0
sig = 4:64:0:*:65535,7:mss,nop,ws,nop,nop,ts,sok,eol+1:df,ecn:0
sig = 6:64:0:*:65535,5:mss,nop,ws,nop,nop,ts,sok,eol+1:flow:0
sig = 6:64:0:*:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:flow:0
sig = 6:64:0:*:65535,7:mss,nop,ws,nop,nop,ts,sok,eol+1:flow:0
sig = 6:64:0:*:65535,5:mss,nop,ws,nop,nop,ts,sok,eol+1:ecn,flow:0
sig = 6:64:0:*:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:ecn,flow:0
sig = 6:64:0:*:65535,7:mss,nop,ws,nop,nop,ts,sok,eol+1:ecn,flow:0

label = g:unix:macOS/iOS:
sig = *:64:0:*:*,*:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0
sig = 6:64:0:*:*,*:mss,nop,ws,nop,nop,ts,sok,eol+1:flow:0

; --- BSD

label = s:unix:FreeBSD:11-14
sig = *:64:0:*:65535,6:mss,nop,ws,sok,ts:df:0
sig = 6:64:0:*:65535,6:mss,nop,ws,sok,ts:flow:0

label = s:unix:FreeBSD:9-10
sig = *:64:0:*:65535,6:mss,nop,ws,sok,ts:df,id+:0

label = g:unix:FreeBSD:
sig = *:64:0:*:65535,*:mss,nop,ws,sok,ts:df,id+:0
sig = 6:64:0:*:65535,*:mss,nop,ws,sok,ts:flow:0

label = s:unix:OpenBSD:5.x-7.x
sig = *:64:0:*:16384,6:mss,nop,nop,sok,nop,ws,nop,nop,ts:df,id+:0
sig = 6:64:0:*:16384,6:mss,nop,nop,sok,nop,ws,nop,nop,ts::0
sig = 6:64:0:*:16384,6:mss,nop,nop,sok,nop,ws,nop,nop,ts:flow:0

label = g:unix:OpenBSD:
sig = *:64:0:*:16384,*:mss,nop,nop,sok,nop,ws,nop,nop,ts:df,id+:0

; --- Others

label = s:unix:Solaris:10
sig = *:64:0:*:mss*34,0:mss,nop,ws,nop,nop,sok:df,id+:0

label = s:other:Nintendo:3DS
sig = *:64:0:1360:32768,0:mss,nop,nop,sok:df,id+:0

label = s:other:Cisco IOS:
sig = 4:255:0:536:4128,0:mss::0
sig = 4:255:0:*:4128,0:mss:df,id+:0

label = s:other:lwIP:
sig = 4:255:0:536:mss*4,0:mss::0
sig = 4:255:0:1460:mss*4,0:mss::0
sig = 4:64:0:1436:mss*4,0:mss::0
sig = 4:64:0:1440:mss*4,0:mss::0

; --- Tools: recognised exactly or not at all

label = s:!:NMap:SYN scan
sys = @unix,@win
sig = 4:64-:0:1460:1024,0:mss::0
sig = 4:64-:0:1460:2048,0:mss::0
sig = 4:64-:0:1460:3072,0:mss::0
sig = 4:64-:0:1460:4096,0:mss::0
sig = 6:255:0:1460:1024,0:mss::0
sig = 6:255:0:1460:2048,0:mss::0
sig = 6:255:0:1460:3072,0:mss::0
sig = 6:255:0:1460:4096,0:mss::0

label = s:!:NMap:OS detection
sys = @unix,@win
sig = *:64-:0:1460:1,10:ws,nop,mss,ts,sok:ack+:0
sig = *:64-:0:1400:63,0:mss,ws,sok,ts,eol+0:ack+:0
sig = *:64-:0:640:4,5:ts,nop,nop,ws,nop,mss:ack+:0
sig = *:64-:0:0:4,10:sok,ts,ws,eol+0:ack+:0
sig = *:64-:0:536:16,10:mss,sok,ts,ws,eol+0:ack+:0
sig = *:64-:0:265:512,0:mss,sok,ts:ack+:0
sig = *:64-:0:265:31337,10:ws,nop,mss,ts,sok:ack+:0
sig = *:64-:0:1460:3,10:ws,nop,mss,sok,nop,nop:ecn,uptr+:0

label = s:!:hping:
sys = @unix,@win
sig = 4:64:0:0:512,0::ack+:0
sig = 4:64:0:0:512,0:nop,nop,ts:ack+:0

; ------------------------------------------------------------------------------------------------
; SYN-ACK: its options depend on those offered, hence a line for each client
; ------------------------------------------------------------------------------------------------

[tcp:response]

label = s:unix:Linux:5.x-6.x
sig = *:64:0:*:mss*44,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*45,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*46,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*47,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*44,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:mss*45,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:mss*46,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:mss*44,0:mss:df:0
sig = 6:64:0:*:mss*44,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*45,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*46,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:mss*45,*:mss,nop,nop,sok,nop,ws:flow:0

label = s:unix:Linux:5.x-6.x (loopback)
sig = *:64:0:65495:mss*1,*:mss,sok,ts,nop,ws:df:0
sig = 6:64:0:65475:mss*1,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:3.11-4.19
sig = *:64:0:*:mss*20,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*20,*:mss,nop,nop,sok,nop,ws:df:0
sig = 6:64:0:*:mss*20,*:mss,sok,ts,nop,ws:flow:0

label = s:unix:Linux:3.x
sig = *:64:0:*:mss*10,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*10,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:mss*10,0:mss,nop,nop,sok:df:0
sig = *:64:0:*:mss*10,0:mss,nop,nop,ts:df:0
sig = *:64:0:*:mss*10,0:mss:df:0

label = s:unix:Linux:2.4-2.6
sig = *:64:0:*:mss*4,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:mss*4,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:mss*4,*:mss,nop,nop,ts,nop,ws:df:0
sig = *:64:0:*:mss*4,0:mss,nop,nop,ts:df:0
sig = *:64:0:*:mss*4,*:mss,nop,ws:df:0
sig = *:64:0:*:mss*4,0:mss:df:0

label = g:unix:Linux:
sig = *:64:0:*:*,*:mss,sok,ts,nop,ws:df:0
sig = *:64:0:*:*,*:mss,nop,nop,sok,nop,ws:df:0
sig = *:64:0:*:*,*:mss,nop,nop,ts,nop,ws:df:0
sig = 6:64:0:*:*,*:mss,sok,ts,nop,ws:flow:0
sig = 6:64:0:*:*,*:mss,nop,nop,sok,nop,ws:flow:0
; behind load balancers that write an IP id of their own
sig = *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0

label = s:win:Windows:10/11 or Server 2016 and newer
sig = *:128:0:*:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,8:mss,nop,ws,sok,ts:df,id+:0
sig = *:128:0:*:65535,8:mss,nop,ws:df,id+:0
sig = *:128:0:*:mss*44,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*45,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:mss*44,8:mss,nop,ws,sok,ts:df,id+:0

label = s:win:Windows:7-8.1 or Server 2008-2012
sig = *:128:0:*:8192,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:8192,8:mss,nop,ws,sok,ts:df,id+:0
sig = *:128:0:*:8192,8:mss,nop,ws,nop,nop,ts:df,id+:0
sig = *:128:0:*:8192,8:mss,nop,ws:df,id+:0
sig = *:128:0:*:8192,0:mss,sok,ts:df,id+:0
sig = *:128:0:*:8192,0:mss,nop,nop,sok:df,id+:0

label = s:win:Windows:XP or 2003
sig = *:128:0:*:16384,0:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:16384,0:mss,nop,ws,nop,nop,ts,nop,nop,sok:df,id+,ts1-:0
sig = *:128:0:*:65535,0:mss,nop,ws,nop,nop,sok:df,id+:0
sig = *:128:0:*:65535,0:mss,nop,ws,nop,nop,ts,nop,nop,sok:df,id+,ts1-:0

label = g:win:Windows:
sig = *:128:0:*:*,*:mss,nop,ws,nop,nop,sok:df,id+:0

label = g:unix:macOS/iOS:
sig = *:64:0:*:65535,*:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0
sig = *:64:0:*:65535,*:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0
sig = 6:64:0:*:65535,*:mss,nop,ws,nop,nop,ts,sok,eol+1:flow:0

label = s:unix:FreeBSD:11-14
sig = *:64:0:*:65535,6:mss,nop,ws,sok,ts:df:0
sig = 6:64:0:*:65535,6:mss,nop,ws,sok,ts:flow:0

label = g:unix:FreeBSD:
sig = *:64:0:*:65535,*:mss,nop,ws,sok,ts:df,id+:0
sig = 6:64:0:*:65535,*:mss,nop,ws,sok,ts:flow:0

label = g:unix:OpenBSD:
sig = *:64:0:*:16384,*:mss,nop,nop,sok,nop,ws,nop,nop,ts:df,id+:0
sig = *:64:0:*:16384,*:mss,nop,ws,nop,nop,ts:df,id+:0
sig = *:64:0:*:16384,0:mss,nop,nop,sok,nop,nop,ts:df,id+:0

label = s:unix:Solaris:10
sig = *:64:0:*:mss*37,0:mss,nop,ws,nop,nop,sok:df,id+:0

label = s:other:Cisco IOS:
sig = 4:255:0:536:4128,0:mss::0

label = s:other:lwIP:
sig = 4:255:0:536:mss*4,0:mss::0
sig = 4:255:0:1460:mss*4,0:mss::0
