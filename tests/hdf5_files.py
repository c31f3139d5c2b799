"""HDF5 files (NetCDF-4) written with h5py 3.16 / HDF5 2.0, packed as text; h5py itself is not needed to run the tests.

``list``, ``virtual``, ``link`` and ``links`` take the pixels of their variable ``red`` from "secret.bin" or "secret.nc"
beside them, in the oldest and the newest layout; ``links`` has twenty in a heap. ``plain`` takes nothing from
elsewhere, though it has strings, a soft link and numbers that look like a message. ``bomb`` claims 100,000 x 100,000
pixels.
"""

import base64
import zlib

_PACKED = {
    "list_earliest": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfHn5`dVe$!3nh{EOK<O1sFmXn(oCH){5NbZUx{x4OSCH!eXaHtU1`CAdU>F4>5qP*d27u@YC?A$"
        "ePcWgXD@sj4Nsk^B+RMnm1~H2f#@B$*OpGY*z(q3yS&UFVBT@=x1=1is6BEQBcA&Y8P&J?&V}L8YGs46nIf|JPo>Lf66$a2W9wgB6eE<"
        "upy5iL2qSO+-q|7`BKiJRT1>`T7e-xNU(=<5%0D<s3H~"
    ),
    "list_latest": (
        "c-rgqaB<`1lHy|K;9!7(|4{Iq5yCfsiZ9I(_4W5~31VWXU=l)B2m@S93_vYxd<;N}xhOSdGt5Lc1}cFmO<x{>oxsSz$f&}=z{JGJC;*k"
        "iMKkj-fYm^J!@<A`bR{zvy9Uq%uqY$LeyB$|(5-`s1AWWP2=gUOl%a-UKtbd2Yfc`njsYOH1ge7>?lYpQEly1?N-fb#%FKiC0een1_y"
    ),
    "virtual_earliest": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvf7$ng6P>=wn8KHCslwQFE6K4d=LA5goLd{247ZT*^3R3+a4Z!R%V1dva45MHq0uNWm01zDk<-=0"
        "x2_{r^MX4z$>CuBidl?znAZ9Vb_!<zJi4nyexM*e|ixJ9aL`uP|KpMnnVul#R0oB363`^n=)k07%i1+>!V>Sar#el{`u%EvRC`ZHcp#t"
        "-0+8hO=V5kCjXMZ0?qyh_8ZU!@;RqVy7$wjFpdU?s<B9<9R1_YRp_!4M*5a5U6NgJbDQ0(vEAB}@iFbYP&C>RB!U=)mkQ7{Td!6+C7qk"
        "z@`06;4^G5"
    ),
    "virtual_latest": (
        "c-rgqaB<`1lHy|K;9!7(|4_gn0pS}!#T`34+5J6Sf|wX8n1qlO!T=W&10w?i8y^FZVlGNe*$gw$je$yFO4FAIU?(WPKgF1hj2RdiRTvn"
        "Um>3xaplWf^%sdQWHH=^$2Lmh6)y&)+Kv%OcGeAQDEVqVXNP$iDkv0sYU=)mkQ7{Td0WrYc+24l|sdi+9ihIHozyyj@lZ#SI^zxD!fE7"
        "CfGm;DlFoEh-kQfsaR2L(I0G$3H5p95G?*#tQupb4ZU=)mkQ7{Td!6+C7qhJ(_f>AIE=mh|UJvaU"
    ),
    "link_earliest": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvf7&y`RP>=wn8KHCslwQFE6K4m@NkGK~pyn$uL-+wu@sJ=_S7h_i?HL6l8+f=nf|E)Fl+OXBPcWg"
        "XgQdd&D%r~fPr2ArCKu2pj7aKX>AQgi!na^RcONT6JtK^-0il@~q52u{(#${>Bb3jG6cVgZcQ7$Q4B~*go0$<FRE(%DX&4mo$_8~OBZm"
        "WXQECc514D6Ya#3oDUS2W-kPnm>fI6NzFSDqCc{C@Cf>A&{z&gSK0BoH{TL"
    ),
    "link_latest": (
        "c-rgqaB<`1lHy|K;9!7(|4_id3E>++#rIvXxb5%Z62!z%!6byN5C*uI7#JBC*d!Pj7&#o6i&9hg85oLFlZ#SI^zxD!fP4lvKA;=}b6#f"
        "AW|(bS3?zVUnQIS$oxsSz$f&}=z{JGJC;*kiMKkj-fYmU9c^nL^KvyzzaR7b5%*X)qH6xT>!7yZiu_6COhEXsIM!_f;1*3o*z&gSK0AW"
        "QkVE"
    ),
    "links_latest": (
        "c-rgqaB<`1lHy|K;9!7(|4_id3E>++#rIvXxb5%Z62!#tg-Hk`pw9@AI0&V=m>58;D-6RDJUJT3>K5b?z`zdVFfj-)U<4RDl>ZzW9za#"
        "7G!%#uX(J1gPKc2TKsufkCU%qOe7{qOhYJHMNF6s&Bt^rL31$b(7FB-BJhxz=Dh75Gvk)}Gz5s>_pdBz7SEx-=45+lnQS%a~5Fa-N))h"
        "zWxEY**swEgq4TQuQI)Jj`3<@un*f4AZGh?e<0>Lg3XPEwOSqQ^!u-bL?%i<W$f<-qzGfrX<28&An_*26W4Q9&!x;}?N8_fLD7rcm}8_"
        "euqx_B>x4p`gk&pVGY6oQ$%ck`cScnws*$FS#i;su5$5Q`nkFEIRO0BI8_+<lGVGS~#kt`)Z!qQDARLw4R}m=9*QUkiQAPz+XZV?p;*h"
        "Q(m!`|6`l8Jxii&aU8OVi*O;09+6-GB7f#023(_BO@$3;G&s%7{F>EDT{-F6<Ag<b8!I65oSgP4zvWhV(5f}u_6COx8Pt`c&29r=CYq4"
        "cJPU8b~g_fCwMUl0#WU`Ul=(Ym~ssG85oLFlZ#SI^zxD!ic(V;z`};ug^jQa8)FwX!7glyUDyn}usL>N3+%#{*o2vL3=MFI8{!Z*!Xa*"
        "qL)-+1xG4^CGaTaPIK(Y*h-2|D19M(xktNH}%EqiC8~^}O0qrI"
    ),
    "plain_earliest": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfPDrBiVe$!3nh{EOK<O1sFmYzEoCH){0BU{*8-(8g6%Pq=bp@&Zj|O1&7_dNS35HQH5`l-SV*rS"
        "bfbun<^a&<Zbw#NuU^)-VFV0UZ0nz$U30OKcAktn&23Ck3Mi?JrGb0ltG(9umrI~>&MkpVmg9A*m0%;JRi3ws52Q+0fGeQ+0oXUWjQwA"
        "0U`}w;tf_()66|DHx!#tzFj9;AuT6qJDR)t}jo-xxEBm@{4Ap%BFbw=pv2pFI&NFjqK9dSZ)2%60k24#2%!s-RI`hy2r!!R<iF^B;DR-"
        "Rv!QVirv0>eoFOTL1IA1wVaA!Vi$oCq;wKI2F(SQ(j^Sy<WFIXJnvd3gEw1q6kJMMTBKB_yS!Wn|^#6%>_}RaDi~H8i!fb#(Rg4GfKpO"
        "-#+qEiA39ZEWrA9UPsUU0mJVJv_a<eSH1=0|JABLqfyCBO;@sV`Agt6B3h>Q&Q8?GcvQXb8_?Y3kr*hOG?YiD=Mq1YijH28ycIMTUy)N"
        "J370%dwTo&Crq3)dCJsj(`U?_HG9t7dGi-6T(o$}(q+q6tX#Ev&DwSAH*DOrdCS&q+js2TwR_Lreftj_JaqWT(PPI?oIG{<%-M72FI>E"
        "I`O4L6*Kgdsb^FfUd-oqaeDwIq(`V0LynOZg&D(eHKYaZ3`ODXD-+%o4_507?fB)H`@y`m*W015l6vf<~{e2jbDjr6(N+bzOegJ_)wB&"
        "Grf3&SJ3P!;w7zLwX6pVsVFbYP&C>RB!U=$2i003$<#Y+"
    ),
    "plain_latest": (
        "c-rgqaB<`1lHy|K;9!7(|4?v362dotiqF(ync(l?62!z%!6byN5C*uI7#JBC*!UQL6mwB(%4VoWHXe`&W8Qv72wzl)fdx~yfB*x-X(ot"
        "@QkYwK7*IfnOUFyF6M)7ssxUAxF)=a<K;>}J%sdQWH4w`=7+8U>Wai=k`hb~{0p@F{%NSNL3>jc-$bS(Y79zl~U}R)8g31{o`yJ><7BE"
        "i%)$g1TH78&O?qC?Qz|Zi;X@6%AZ=P_V&luPkM1YW?JijQVm_d?}5u6l|lK?2Fpec=k2`L4f;6#Wa^FeHIvgTl9Db7zTVPVh*CT|vD19"
        "pZ{FbYP&C>W}Mk%^gwm5rT)lZ%^&mycgSP)JxrR7_k#Qc7AzR!&|)QAt@vRZU$(Q%hS%S5M!-(8$=t)Xdz%(#qP#*3RC+(aG7x)y>_*)"
        "63h(*Uvv7Feo@AG%P$KGAcSIHZDFPF)2AEH7z|OGb=kMH!r`Su&B7Cw5+_MvZ}hKwywURv8lPGwXMCQv#YzOx37P~#7UE<Or17;#>`o>"
        "=ggfqf5E~<i<c~2wtU6PRjb#mUAKP2#!Z{IY~8kf$Ie~5_w3!b|G>dRhmRaRcKpQ2Q>V|IJ$L@X#Y>m3T)lSv#?4!|@7%q2|G~pYkDok"
        "!_WZ@mSFhi^efR#u$4{TXeEs(Q$IoBC|NQ;;pB-Advw|v1Xvsem#oV3!eHf8iJ&b7Wnj|c>9S9_%C5Hq2qgi4UjDk@x3P!;w7zLwX6pV"
        "sVFbYP&C>X2&0PASV*#"
    ),
    "bomb_earliest": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfDp*nZF!=;1%?PDCp!5nRm^dR?P68?}2sIyFT}Y6tD@gT!Gyt>5fCWNxFpPqc2s~UJ13+{Hln+a"
        "#Czw#x6{V)2q(=`5?PX+OgP6q#<7+@@CWyd-HvBX*Fy(_-f(r5skR+_YAkM)cUJo^&6_}zy@=VMS1G$0nAO<7cJ`QjWN=Z%2Ni0c)ngP"
        "lOkQ~L##0<+SFPIq^Kp3hdfF|(}?C0;o2zC_&C@_zvO>zJL(z`!I"
    ),
}


def hdf5(name: str) -> bytes:
    """Bytes of one of the files."""
    return zlib.decompress(base64.b85decode(_PACKED[name]))
