"""A server as a child process, used over HTTP: llama.cpp's, or ours."""

import http.client
import json
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class HttpServer:
    """A process started by a command that listens on `port`; ready once GET /health returns 200; ended by `close`."""

    def __init__(self, command, port, patience=120):
        self.port = port
        self.log = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen([str(part) for part in command], stdout=self.log, stderr=subprocess.STDOUT)
        until = time.monotonic() + patience
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                raise RuntimeError(f"{command[0]} does not come to listen; the end of its log:\n{self.log_end()}")
            time.sleep(0.1)

    def is_ready(self):
        try:
            return self.request("GET", "/health", None, timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def request(self, method, path, body, timeout=600):
        """The answer's status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, path, body):
        """The JSON answer to a POST."""
        status, text = self.request("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{path} was answered with {status}: {text}\n{self.log_end()}")
        return json.loads(text)

    def post_at_once(self, path, bodies):
        """The answers to all bodies, sent concurrently on separate connections."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            return list(threads.map(lambda body: self.post(path, body), bodies))

    def log_end(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
