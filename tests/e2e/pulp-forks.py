"""Answers calls of pulp-cli on a socket: a line of JSON each, {words, cwd, env}, answered by {code, stdout, stderr}.

pulp-cli takes longer to load than to do anything: this process has loaded it, and each call is a fork of it.
"""

import json
import os
import socketserver
import sys
import tempfile

import pulp_cli


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 16


class Call(socketserver.StreamRequestHandler):
    def handle(self):
        call = json.loads(self.rfile.readline())
        os.chdir(call["cwd"])
        os.environ.update(call["env"])
        sys.argv = ["pulp", *call["words"]]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            answer = {"code": run()}
            for name, file in ("stdout", out), ("stderr", err):
                file.seek(0)
                answer[name] = file.read().decode()
        self.wfile.write(json.dumps(answer).encode())


def run():
    try:
        pulp_cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


pulp_cli.load_plugins()
with Server(sys.argv[1], Call) as server:
    print("ready", flush=True)
    server.serve_forever()
