"""Chromium without a window, driven over its debugging pipe (Chrome DevTools Protocol)."""
import base64
import json
import os
import subprocess
import time

from harness import HANG, eventually


class Browser:
    def __init__(self, scratch, namespace=(), width=1300, height=1500):
        """`namespace`: words before the command, to run it elsewhere."""
        to_it, our_end = os.pipe()
        our_in, from_it = os.pipe()
        self.out, self.ins = our_end, our_in
        fds = f"exec 3<&{to_it} 4>&{from_it}; exec \"$@\""
        self.process = subprocess.Popen(
            ["bash", "-c", fds, "browser", *namespace, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={scratch.path}/browser", f"--window-size={width},{height}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_it, from_it), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(from_it)
        scratch.closers.append(self.stop)
        self.buffer, self.number = b"", 0
        pages = eventually(lambda: [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"], "a page")
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 3 * HANG
        while time.monotonic() < deadline:
            while b"\0" not in self.buffer:
                data = os.read(self.ins, 1 << 20)
                assert data, "the browser has ended"
                self.buffer += data
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
        raise AssertionError(f"no answer to {method}")

    def open(self, url, scheme="light"):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)

    def run(self, script):
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, key, code):
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def screenshot(self, path):
        size = self.run("[document.documentElement.scrollWidth, document.body.getBoundingClientRect().height]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1] + 12, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(HANG)
        os.close(self.out)
        os.close(self.ins)
