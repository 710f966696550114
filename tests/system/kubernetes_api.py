"""A stand-in for the Kubernetes API server, strict where the reference is (kubernetes.io/docs/reference/using-api/api-concepts
and the pages of Pod and EndpointSlice): list with and without pages, watch from a version, bookmarks, 410 once a version is
forgotten, 401 for tokens that are not known, 403 without RBAC, selectors by which objects come and go. A request that a real
server would refuse is refused, and kept in `mistakes`: a test ends by looking there."""
import base64
import copy
import http.server
import json
import re
import select
import ssl
import threading
import time
import urllib.parse
import uuid

import netns
from harness import free_port

KINDS = {"pods": ("/api/v1", "v1", "Pod"), "endpointslices": ("/apis/discovery.k8s.io/v1", "discovery.k8s.io/v1", "EndpointSlice")}
PATH = re.compile(r"^(/api/v1|/apis/discovery\.k8s\.io/v1)(?:/namespaces/([a-z0-9-]+))?/(pods|endpointslices)$")
PARAMETERS = {"watch", "allowWatchBookmarks", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "limit", "continue",
              "labelSelector", "fieldSelector"}
FIELDS = {"pods": {"spec.nodeName", "metadata.name", "metadata.namespace", "status.phase"},
          "endpointslices": {"metadata.name", "metadata.namespace"}}


def status(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


class Refused(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.body = status(code, reason, message)


class Selection:
    """What a request's path and selectors name."""

    def __init__(self, resource, namespace, query):
        self.resource, self.namespace = resource, namespace
        self.labels = self.pairs(query.get("labelSelector", ""))
        self.fields = self.pairs(query.get("fieldSelector", ""))
        unknown = set(self.fields) - FIELDS[resource]
        if unknown:
            raise Refused(400, "BadRequest", f"field label not supported: {', '.join(unknown)}")

    @staticmethod
    def pairs(text):
        try:
            return dict(re.split("==?", term, maxsplit=1) for term in text.split(",") if term)
        except ValueError:
            raise Refused(400, "BadRequest", f"unable to parse requirement: {text}") from None

    @staticmethod
    def field(found, path):
        for step in path.split("."):
            found = found.get(step, {}) if isinstance(found, dict) else {}
        return found or ""

    def holds(self, resource, item):
        if resource != self.resource or (self.namespace and item["metadata"]["namespace"] != self.namespace):
            return False
        labels = item["metadata"].get("labels", {})
        return all(labels.get(k) == v for k, v in self.labels.items()) and \
            all(self.field(item, k) == v for k, v in self.fields.items())


class KubernetesApi:
    def __init__(self, scratch, authority=None, tokens=("token-1",), resources=("pods", "endpointslices"), namespace=None):
        """`namespace`: the network namespace that it listens in."""
        self.network = namespace
        self.port, self.tokens, self.allowed = free_port(), set(tokens), set(resources)
        self.lock = threading.Condition()
        self.version, self.forgotten = 1000, 1000  # versions up to `forgotten` are not known any more
        self.items, self.history = {}, []  # (resource, namespace, name) -> item; (version, type, resource, item, before)
        self.requests, self.mistakes = [], []
        self.gone_in_stream = True  # a watch from a forgotten version: 200 and an ERROR event, or status 410
        self.fail_with = None  # (code, reason): of every request
        self.retry_after = None
        self.cut_next = False
        self.bookmark_to = 0  # watches say that they are at this version
        self.watches = 0
        self.page_size = None  # pages even where more is asked for
        self.pair = authority.issue("127.0.0.1", file="api-server") if authority else None
        self.server = None
        self.up()
        scratch.closers.append(self.down)

    @property
    def url(self):
        return f"{'https' if self.pair else 'http'}://127.0.0.1:{self.port}"

    # --- what a test does ---

    def up(self):
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                api.serve(self)

            def do_POST(self):
                api.mistakes.append(f"{self.command} {self.path}")
                self.send_error(405)

            do_PUT = do_PATCH = do_DELETE = do_POST

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 64

            def handle_error(self, *_):
                pass

        listen = lambda: Server(("127.0.0.1", self.port), Handler)
        self.server = netns.Thread(self.network, listen).result() if self.network else listen()
        if self.pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pair.cert, self.pair.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.alive = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self):
        """Nobody listens any more, and every watch breaks off."""
        if not self.server:
            return
        with self.lock:
            self.alive = False
            self.lock.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.server = None

    def put(self, resource, item):
        _, api_version, kind = KINDS[resource]
        with self.lock:
            metadata = item["metadata"]
            key = (resource, metadata["namespace"], metadata["name"])
            before = self.items.get(key)
            self.version += 1
            item = {"apiVersion": api_version, "kind": kind, **copy.deepcopy(item)}
            item["metadata"] = {"uid": before["metadata"]["uid"] if before else str(uuid.uuid4()),
                                "creationTimestamp": "2026-01-01T00:00:00Z", **item["metadata"], "resourceVersion": str(self.version)}
            self.items[key] = item
            self.history.append((self.version, "MODIFIED" if before else "ADDED", resource, item, before))
            self.lock.notify_all()
            return item

    def delete(self, resource, namespace, name):
        with self.lock:
            before = self.items.pop((resource, namespace, name))
            self.version += 1
            gone = copy.deepcopy(before)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self.history.append((self.version, "DELETED", resource, gone, before))
            self.lock.notify_all()

    def forget(self):
        """What etcd's compaction does: versions before now are gone; pages of old lists too."""
        with self.lock:
            self.forgotten = self.version
            self.history = []

    def bookmark(self):
        """Every watch hears the version of now."""
        with self.lock:
            self.version += 1
            self.bookmark_to = self.version
            self.lock.notify_all()
            return self.version

    def cut_off(self):
        """The next event of a watch ends in its middle, and the connection with it."""
        with self.lock:
            self.cut_next = True

    def asked(self, **query):
        """Requests with these parameters; None: without."""
        with self.lock:
            return [r for r in self.requests if all(r["query"].get(k) == v for k, v in query.items())]

    # --- serving ---

    def serve(self, handler):
        try:
            selection, query = self.check(handler)
            if query.get("watch") in ("1", "true"):
                self.watch(handler, selection, query)
            else:
                self.send(handler, 200, self.list(selection, query))
        except Refused as refused:
            self.send(handler, refused.body["code"], refused.body)
        except (OSError, ValueError):
            handler.close_connection = True

    def check(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        pairs = urllib.parse.parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        query = dict(pairs)
        with self.lock:
            token = handler.headers.get("authorization", "")
            self.requests.append({"path": url.path, "query": query, "token": token.removeprefix("Bearer ")})
            if self.fail_with:
                raise Refused(*self.fail_with, "as the test says")
            if self.pair and token.removeprefix("Bearer ") not in self.tokens:
                raise Refused(401, "Unauthorized", "Unauthorized")
        found = PATH.match(url.path)
        wrong = [f"twice: {k}" for k in query if [p for p, _ in pairs].count(k) > 1]
        wrong += [f"unknown: {k}" for k in query if k not in PARAMETERS]
        if not handler.headers.get("host"):
            wrong.append("no host")
        if "application/json" not in handler.headers.get("accept", ""):
            wrong.append("accept")
        if found and KINDS[found[3]][0] != found[1]:
            wrong.append("another API group")
        if wrong or not found:
            self.mistakes.append(f"{handler.path}: {wrong}")
            raise Refused(404 if not found else 400, "NotFound" if not found else "BadRequest", f"{wrong}")
        if found[3] not in self.allowed:
            raise Refused(403, "Forbidden", f'{found[3]} is forbidden: User "system:serviceaccount:sluice:sluice" cannot list resource')
        return Selection(found[3], found[2], query), query

    @staticmethod
    def number(query, name, default=0):
        text = query.get(name, "")
        if text and not text.isdigit():
            raise Refused(400, "BadRequest", f"invalid {name}: {text}")
        return int(text) if text else default

    def list(self, selection, query):
        """resourceVersion: "0" from the cache, whole; unset the latest, in pages; another without a match is exact where there is a
        limit, and not older than otherwise."""
        if "watch" not in query and ("timeoutSeconds" in query or "allowWatchBookmarks" in query):
            self.mistakes.append(f"a list with parameters of a watch: {query}")
        version, limit = self.number(query, "resourceVersion"), self.number(query, "limit")
        with self.lock:
            if version > self.version:
                raise Refused(504, "Timeout", f"Too large resource version: {version}, current: {self.version}")
            start, at = 0, self.version
            if "continue" in query:
                if "resourceVersion" in query:
                    raise Refused(400, "BadRequest", "specifying resource version is not allowed when using continue")
                start, at = json.loads(base64.urlsafe_b64decode(query["continue"]))
                if at < self.forgotten:
                    raise Refused(410, "Expired", "The provided continue parameter is too old")
            elif limit and version and version < self.forgotten:
                raise Refused(410, "Expired", "The resourceVersion for the provided list is too old.")
            items = [copy.deepcopy(i) for (resource, _, _), i in sorted(self.items.items()) if selection.holds(resource, i)]
        metadata = {"resourceVersion": str(at)}
        size = min(limit, self.page_size or limit) if query.get("resourceVersion") != "0" else 0
        if size and len(items) > start + size:
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps([start + size, at]).encode()).decode()
            metadata["remainingItemCount"] = len(items) - start - size
        items = items[start:start + size] if size else items[start:]
        for item in items:  # as a real server lists them
            item.pop("kind"), item.pop("apiVersion")
        _, api_version, kind = KINDS[selection.resource]
        return {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items}

    def watch(self, handler, selection, query):
        version = self.number(query, "resourceVersion", None)
        if not version:
            self.mistakes.append(f"a watch without a version: {query}")
        ends = time.monotonic() + self.number(query, "timeoutSeconds", 1800)
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        with self.lock:
            gone = version < self.forgotten
        if gone and not self.gone_in_stream:
            raise Refused(410, "Expired", f"too old resource version: {version} ({self.forgotten})")
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        if gone:
            self.event(handler, "ERROR", status(410, "Expired", f"too old resource version: {version} ({self.forgotten})"))
            return self.finish(handler)
        with self.lock:
            self.watches += 1
        try:
            self.follow(handler, selection, version, ends, bookmarks)
        finally:
            with self.lock:
                self.watches -= 1

    def follow(self, handler, selection, version, ends, bookmarks):
        while True:
            with self.lock:
                pending = lambda: [h for h in self.history if h[0] > version]
                told = lambda: bookmarks and self.bookmark_to > version
                self.lock.wait_for(lambda: not self.alive or pending() or told() or version < self.forgotten,
                                   max(0, min(0.2, ends - time.monotonic())))
                gone = select.select([handler.connection], [], [], 0)[0]  # a client that is there says nothing more
                if gone or not self.alive:
                    handler.connection.close()
                    return
                events, at = pending(), self.bookmark_to if told() else 0
            for number, kind, resource, item, before in events:
                version = number
                seen = self.as_seen(selection, kind, resource, item, before)
                if seen:
                    self.event(handler, seen, item)
            if at > version:
                version = at
                _, api_version, kind = KINDS[selection.resource]
                self.event(handler, "BOOKMARK", {"kind": kind, "apiVersion": api_version,
                                                 "metadata": {"resourceVersion": str(at), "creationTimestamp": None}})
            if time.monotonic() >= ends:
                return self.finish(handler)

    @staticmethod
    def as_seen(selection, kind, resource, item, before):
        """By who selects: what begins to match is ADDED, what no longer does is DELETED."""
        was, now = bool(before) and selection.holds(resource, before), selection.holds(resource, item) and kind != "DELETED"
        return "MODIFIED" if was and now else "ADDED" if now else "DELETED" if was else None

    def event(self, handler, kind, item):
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        with self.lock:
            cut, self.cut_next = self.cut_next, False
        # In several chunks, since nobody promises that a chunk is an event.
        half = len(line) // 2
        for part in (line[:half], line[half:]):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
            if cut:
                handler.connection.close()
                raise OSError("cut off")

    @staticmethod
    def finish(handler):
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()

    def send(self, handler, code, body):
        text = json.dumps(body).encode()
        handler.send_response(code)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(text)))
        if self.retry_after and code != 200:
            handler.send_header("retry-after", str(self.retry_after))
        handler.end_headers()
        handler.wfile.write(text)


def slice_of(name, service, addresses, port=80, namespace="shop", port_name="http", **conditions):
    """An EndpointSlice of these addresses; `conditions` of all of them, ready where nothing is said."""
    ports = port if isinstance(port, list) else [{"name": port_name, "port": port, "protocol": "TCP"}]
    v6 = addresses and ":" in addresses[0]
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv6" if v6 else "IPv4", "ports": ports,
            "endpoints": [{"addresses": [a], "conditions": conditions or {"ready": True, "serving": True, "terminating": False},
                           "nodeName": "n1", "targetRef": {"kind": "Pod", "name": f"{service}-{i}"}}
                          for i, a in enumerate(addresses)]}


def pod(name, *addresses, namespace="default", node="n1", labels=None, phase="Running", host_network=False, deleting=False, created=None):
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if created:
        metadata["creationTimestamp"] = created
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    if host_network:
        spec["hostNetwork"] = True
    found = {"phase": phase}
    if addresses:
        found |= {"podIP": addresses[0], "podIPs": [{"ip": a} for a in addresses]}
    return {"metadata": metadata, "spec": spec, "status": found}
