"""Small HEIC files: no dependency of smelt can write them (the encoder that others use is under the GPL).

A picture of 56 × 40, red in its first 24 × 16 pixels, then a ramp; once with its right half transparent.
Written once by pillow-heif, of quality 60, and packed.
"""

from __future__ import annotations

import base64
import zlib

_PLAIN = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw49>wIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN>#&27<Fdtelydm"
    "j>p6L`8v|R3<1dqb%7F#N;c;EXjo{`I}i#Q~;#!W)>vp1L-oLGG|6+kkACMBDoI?fBydX!N9=JoB-4z;lRkl`2Rmh0W(MiGY"
    "HA;Vsc0XN@_VVGNQ>WP-tYG_Ug&9ojW)(3>1Ju%pih6F$t)g&4uw`@qtdDCBn)1IYoKNITb)rUIw-XppZyraX~87XAV%Tk(`"
    "qVa+w9x@fsld|Ns9$*D){w=@%dxhy@BVD>6YEnK?K(fRsdLK`tzif#Js5$i&Rr0%Tv!O-Td=@<|QG^_&lso%a9Nxc>iC>caO"
    "=qVM?VU5noF@5W2XwBL^oWiMM+JlUbjMKWdMD;CLpsulBMt<I`l+18xOqZ!m^z*`&ro~4=7SZ~|cY$d1VcRCq=KfTa=VycF6"
    ">!aSEZNCeJK8wFR<{DXSKU;cA&8(C&8yYYCZ{8Ap*}z)#+mi1-Q=h8^WpQ1rbyGS1>BKSj$3G3<|Kxuv!XoTn=OUmS)BU)<^"
    "hWw;jiYl__f;9r61F^aR_yiCpuGPF|F^O(_RE{WwV+3x^^DM#g~0$5Ewo|"
)
_ALPHA = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfhjvTwIq=N0u(b+a*CjAhJwuG5(YG2l9`haHpIn&fr)_;#A51)&_Hk&C<X+~F"
    ">sM!AhyWN%u56FK(eAhPAXU#P)$ZzvLOSCAQM86uOPD|mjSAhaaCqPQ2~%{$}C9E2a1&el{qsq1BDnSfECGoVEFU*#}5Vue&"
    "z(A4haWF9>)LwK?;~bDwsh?ZWoh7B2ZGxiIEXaW`RN@>$F!-mhIfZkzt?!6k-Mu42nrW<!mmD2a6AM0xc0v&d({zOU|hPit;"
    "kBH2{S~GK&jRq26_XVvXdSM3BoYAdY9y0MY;d|NjB<A&`Cn4Ge*T%!*8Kka2KufPx(CDHafO{tuX^{vbRh4)GL70W(+y(Csi"
    "ksRI3kDsiBRMJ#&tq*>1n0Nu&c01|9L^$s7*enya$>WQTl&LCcCQJz(9L29~HMrv8Im63s=sTEKvGsOxVFAA9jxv&HSOarWq"
    "Ow6n;3{0$T%<LU4KryMzqSQ2~JReYB4mhQN;!q<uB@vXQPHHf&=X{{-wEw@x_5Y_*7ruWIeaA=dTJ(;8H(pAn{eE;Pd)cz$$"
    "qrR6k|`Tsu}JPyt(X^Ubyn@lw&qkG&7eL5-rDH*EX|z8dfUEcD>*H{)5-Yz>4oMKQ#F)ZANBrh`&}sXS^VWO*T`b~+0s*LW~"
    "H3j(0Jj0^Ooq#2G*kAmVEb_`dlq2i|bmgo67M|Cyu#4{%QFBC;w9s7GeK77Xjs%?#K0|H_|_A9G$DWugY+iu;rn%Vy~A5<^4"
    "bSzm;{dU)~I^1wHDlXN0ya1SM~O4aRlC2OgR&{Uq<Vpx~RGT8Q~(!~O@>881&%{ImY%|2ceL!}d3JQ|ni{e^~W(WBbLBJ?By"
    ";&eX5}zT`vUvBO<@Uwb0Yz1W-kC^lsFjJb+t054?^z5"
)
HEIGHT, WIDTH = 40, 56


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def plain() -> bytes:
    """The picture as it is; its coded size is 64 × 64, cut to its own."""
    return _unpacked(_PLAIN)


def transparent() -> bytes:
    """Its right half transparent."""
    return _unpacked(_ALPHA)


def turned() -> bytes:
    """The picture, to be turned by a quarter against the clock after it was cut."""
    return (
        plain()
        .replace(b"pixi\0", b"irot\1")
        .replace(b"\x05\x81\x02\x03\x05\x84", b"\x05\x81\x02\x03\x84\x85")
    )
