"""Raw requests, valid, odd and hostile, for the differential test: name -> bytes."""
from test_hostile import ACCEPTED, CHUNKED, H, REFUSED, get, post


def simple(method, target=b"/x", extra=b"", body=b""):
    return method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" + extra + b"\r\n" + body


METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"M-SEARCH", b"BREW",
           b"get", b"Get", b"G", b"GETX", b"A" * 31, b"!#$%&'*+-.^_`|~", b"GET\x00", b"G@T", b"GE\xffT"]

TARGETS = [b"/", b"/a/b/c", b"/a?b=c", b"/a?", b"/?", b"/a?b?c", b"/a;p=1", b"/a,b", b"/%41", b"/%7Euser", b"/%2f", b"/%2F..", b"/a%20b", b"/a+b",
           b"/.", b"/..", b"/./a", b"/a/.", b"/a/..", b"/a/../b", b"/a/../../b", b"/..;/admin", b"/a/..;/b", b"/%2e", b"/%2E%2E", b"/a/%2e%2e/b",
           b"/a/.%2e/b", b"/a/%252e%252e/b", b"//a", b"/a//b", b"///", b"/a/./", b"/%", b"/%4", b"/%zz", b"/%00", b"/%0a", b"/a%0d%0ab", b"/a\\b", b"/a|b",
           b"/a{b}", b"/a\"b", b"/a<b>", b"/a^b", b"/a`b", b"/a[b]", b"/a'b", b"/a(b)", b"/a:b", b"/a@b", b"/a=b", b"/a*b", b"/a!b", b"/a$b&c", b"/~a",
           b"/#", b"/a#b", b"/a?b#c", b"/\xc3\xa9", b"/a?\xff", b"/a\x7fb", b"/a\tb", b"a", b"*", b"?a", b"", b"http://a/x", b"http://a", b"http://a?q",
           b"HTTP://A/x", b"http://a:80/x", b"http://b/x", b"http://a@b/x", b"http:///x", b"https://a/x", b"ftp://a/x", b"http://[::1]/x", b"a:80", b"//a/x"]

HOSTS = [b"a", b"A", b"a.b", b"a.", b"a:80", b"a:", b"a:0", b"a:65535", b"a:65536", b"a:080", b"a:-1", b"a:x", b":80", b"", b" ", b"a ", b" a", b"a b", b"a,b",
         b"a/b", b"a?b", b"a#b", b"a@b", b"a\\b", b"a%41", b"a_b", b"-a", b"a..b", b"127.0.0.1", b"127.1", b"0x7f.1", b"[::1]", b"[::1]:80", b"[::1", b"::1", b"[::1%25eth0]",
         b"[v1.a]", b"\xc3\xa9", b"a\x00", b"*.a", b"a" * 255, b"a" * 300, b"(a)", b"a;b", b"a\"b"]

LENGTHS = [b"5", b" 5", b"5 ", b"\t5", b"05", b"0000000005", b"+5", b"-5", b"5.0", b"5e0", b"0x5", b"5,5", b"5, 5", b"5,6", b"", b"five", b"5 5", b"\x0b5", b"5\x00",
           b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"\"5\"", b"5;", b"\xef\xbc\x95"]

CODINGS = [b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked", b"chunked,", b",chunked", b", chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip",
           b"identity", b"identity, chunked", b"chunked, identity", b"chunked;q=1", b"chunked; a=b", b"xchunked", b"chunkedx", b"chunke", b"\"chunked\"", b"'chunked'", b"",
           b"chunked\x0b", b"\x0bchunked", b"chunked\x00", b"trailers", b"gzip", b"chunked\x0c", b"\xc2\xa0chunked", b"ch\xc3\xbcnked"]

BODIES = [b"5\r\nhello\r\n0\r\n\r\n", b"5;a\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
          b" 5\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n", b"000000000000000005\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n",
          b"-5\r\nhello\r\n0\r\n\r\n", b"5h\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n",
          b"5\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n000000\r\n\r\n", b"5\r\nhello\r\n0;end\r\n\r\n", b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", b"5\r\nhello\r\n0\r\nX-T : 1\r\n\r\n",
          b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n", b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", b"5\r\nhello\r\n0\r\n X: y\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n", b";5\r\nhello\r\n0\r\n\r\n",
          b"g\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\nhello", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"5;\r\nhello\r\n0\r\n\r\n", b"5;\x00\r\nhello\r\n0\r\n\r\n",
          b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"A\r\nhellohello\r\n0\r\n\r\n", b"a\r\nhellohello\r\n0\r\n\r\n"]

FIELDS = [b"X-A: 1", b"X-A:1", b"X-A:  1  ", b"X-A:\t1", b"X-A:", b"X-A: ", b"x-a: 1", b"X-A : 1", b" X-A: 1", b"X-A\t: 1", b"X A: 1", b"X-A", b": 1", b":", b"X-A: a\x00b", b"X-A: a\rb",
          b"X-A: a\nb", b"X-A: a\r\n b", b"X-A: a\r\n\tb", b"X-A: \x01", b"X-A: \x7f", b"X-A: \xff", b"X-A: \xc3\xa9", b"X_A: 1", b"X.A: 1", b"X@A: 1", b"X(A): 1", b"X\xffA: 1", b"X\x00A: 1",
          b"X-A: 1\r\nX-A: 2", b"X-A: " + b"a" * 4000, b"Connection: close, X-A\r\nX-A: 1", b"Connection: X-B\r\nX-A: 1", b"Connection: Host", b"Connection: Content-Length",
          b"Connection: keep-alive, close", b"Connection: ,", b"Connection:", b"Proxy-Connection: close", b"Keep-Alive: timeout=5", b"Upgrade: websocket", b"Connection: Upgrade\r\nUpgrade: foo",
          b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ", b"TE: trailers", b"TE: gzip", b"Connection: TE\r\nTE: trailers", b"Trailer: X-T",
          b"Expect: 100-continue", b"Expect: nonsense", b"Max-Forwards: 0", b"Via: 1.1 x", b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"Cookie: a=b", b"Cookie: a=b\r\nCookie: c=d",
          b"Range: bytes=0-1", b"Content-Length: 0", b"Content-Encoding: gzip", b"Authorization: Basic eA==", b"Host-: a", b"HOST: a", b"Content-Length : 5", b"Content\xad-Length: 5", b"Content_Length: 5"]

STRUCTURES = {
    "lf_lines": b"GET / HTTP/1.1\nHost: a\n\n", "cr_lines": b"GET / HTTP/1.1\rHost: a\r\r", "lf_last": b"GET / HTTP/1.1\r\nHost: a\r\n\n", "crlf_before": b"\r\n" + get(), "two_crlf_before": b"\r\n\r\n" + get(),
    "lf_before": b"\n" + get(), "space_before": b" " + get(), "two_spaces": b"GET  / HTTP/1.1\r\n" + H + b"\r\n", "tabs": b"GET\t/\tHTTP/1.1\r\n" + H + b"\r\n", "trailing_space": b"GET / HTTP/1.1 \r\n" + H + b"\r\n",
    "no_version": b"GET /\r\n" + H + b"\r\n", "version_09": b"GET / HTTP/0.9\r\n" + H + b"\r\n", "version_10": b"GET / HTTP/1.0\r\n" + H + b"\r\n", "version_10_no_host": b"GET / HTTP/1.0\r\n\r\n",
    "version_12": b"GET / HTTP/1.2\r\n" + H + b"\r\n", "version_20": b"GET / HTTP/2.0\r\n" + H + b"\r\n", "version_30": b"GET / HTTP/3.0\r\n" + H + b"\r\n", "version_11x": b"GET / HTTP/1.1x\r\n" + H + b"\r\n",
    "version_1": b"GET / HTTP/1\r\n" + H + b"\r\n", "version_01.1": b"GET / HTTP/01.1\r\n" + H + b"\r\n", "version_lower": b"GET / http/1.1\r\n" + H + b"\r\n", "version_icy": b"GET / ICY/1.1\r\n" + H + b"\r\n",
    "no_host": b"GET / HTTP/1.1\r\n\r\n", "two_hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "same_host_twice": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "body_on_get": simple(b"GET", extra=b"Content-Length: 5\r\n", body=b"hello"), "chunked_get": simple(b"GET", extra=CHUNKED + b"\r\n", body=b"5\r\nhello\r\n0\r\n\r\n"),
    "post_without_length": simple(b"POST"), "chunked_10": b"POST /x HTTP/1.0\r\n" + H + CHUNKED + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "cl_10": b"POST /x HTTP/1.0\r\n" + H + b"Content-Length: 5\r\n\r\nhello", "keep_alive_10": b"GET /x HTTP/1.0\r\n" + H + b"Connection: keep-alive\r\n\r\n",
    "two_te_lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"5\r\nhello\r\n0\r\n\r\n"), "te_te_obfuscated": post(b"Transfer-Encoding: x", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    "cl_te": post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG"), "te_cl": post(CHUNKED, b"Content-Length: 4", body=b"5c\r\n"), "two_cl": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "expect_body": post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"), "absolute_other_host": get(target=b"http://b/x"),
    "pipelined": get(target=b"/1") + get(target=b"/2"), "pipelined_after_body": post(b"Content-Length: 5", body=b"hello") + get(target=b"/2"),
}


def cases():
    all_of = {}
    for i, method in enumerate(METHODS):
        all_of[f"method_{i}"] = simple(method)
    for target in TARGETS:
        all_of["target " + target.decode("latin-1")] = simple(b"GET", target)
    for i, host in enumerate(HOSTS):
        all_of[f"host_{i}"] = b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    for i, length in enumerate(LENGTHS):
        all_of[f"length_{i}"] = post(b"Content-Length: " + length, body=b"hello")
    for i, coding in enumerate(CODINGS):
        all_of[f"coding_{i}"] = post(b"Transfer-Encoding: " + coding, body=b"5\r\nhello\r\n0\r\n\r\n")
    for i, body in enumerate(BODIES):
        all_of[f"chunks_{i}"] = post(CHUNKED, body=body)
    for field in FIELDS:
        all_of["field " + field[:60].decode("latin-1")] = simple(b"GET", extra=field + b"\r\n")
    for name, raw in STRUCTURES.items():
        all_of["structure_" + name] = raw
    for name, (raw, _) in {**REFUSED, **ACCEPTED}.items():
        if len(raw) < 20_000:
            all_of["hostile_" + name] = raw
    return all_of
