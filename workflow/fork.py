"""A process that has imported what notebooks import, and forks for each run: kernel start and imports then cost no seconds.

    python workflow/fork.py SOCKET ARGUMENT ...   have the server at SOCKET do `workflow.run.main([ARGUMENT, ...])`,
                                                  and exit with its code; without a server, do it here

For a bare, quick start this file imports little at the top.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def ask(path: str, arguments: list[str]) -> int:
    """Have the server do a run; its exit code, or 1 if it dies."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps(arguments).encode() + b"\n")
        answer = connection.makefile().readline()
    return int(answer or 1)


def start(path: str, do) -> tuple[int, int]:
    """Fork a server that calls `do(arguments, kernel)` in a new process for each run; its process id, and its lifeline.

    The lifeline is a file descriptor: when it is closed, by this process or by its death, server and runs end at once.
    Call it before any thread is started.
    """
    listening, (lifeline, held) = socket.socket(socket.AF_UNIX), os.pipe()
    listening.bind(path)
    listening.listen(128)
    server = os.fork()
    if server:
        listening.close()
        os.close(lifeline)
        return server, held
    os.close(held)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep says when it ends
    for number in (signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    _serve(listening, lifeline, do)
    os._exit(0)


def _serve(listening, lifeline, do):
    import select

    while True:
        ready, _, _ = select.select([listening, lifeline], [], [])
        if lifeline in ready:
            os._exit(0)
        connection, _ = listening.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listening.close()
        code = 1
        try:
            arguments = json.loads(connection.makefile().readline())
            kernel = Kernel(connection)
            _die_with(lifeline)
            code = do(arguments, kernel)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            try:
                connection.sendall(f"{code}\n".encode())
            finally:  # whoever asked may be gone; a fork must not go back to where its parent was, and clear that away
                os._exit(code)


def _die_with(lifeline):
    import threading

    def wait():
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


class Kernel:
    """A forked process that becomes a Jupyter kernel once it is told its arguments; like a Popen to jupyter_client.

    It is forked before papermill has an event loop or a thread, neither of which survives a fork, and dies with the process that
    it was forked from.
    """

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket):
        told, self.tell = os.pipe()
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.tell)
            connection.close()  # else whoever waits at its other end doesn't see that the run has died
            said = os.fdopen(told, closefd=False).readline()
            code = 1
            try:
                if said:
                    self._become(told, *json.loads(said))
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:  # as the run: never back to where its parent was
                os._exit(code)
        os.close(told)

    def _become(
        self, told: int, arguments: list[str], environment: dict[str, str], log: str
    ) -> None:
        _die_with(told)
        os.environ.clear()
        os.environ.update(environment)
        messages = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(messages, 1)
        os.dup2(messages, 2)
        from ipykernel.kernelapp import IPKernelApp

        sys.argv = ["ipykernel_launcher", *arguments]
        IPKernelApp.launch_instance(argv=arguments)

    def launch(self, arguments: list[str], environment: dict[str, str], log: str) -> None:
        """Become a kernel, with what it says outside of cells at the end of a file."""
        with os.fdopen(self.tell, "w", closefd=False) as tell:
            tell.write(json.dumps([arguments, environment, log]) + "\n")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def use(kernel: Kernel, log: str) -> None:
    """Have jupyter_client take `kernel` where it would start a process. `log` as of `Kernel.launch`."""
    from importlib.metadata import EntryPoint

    from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd, env=None, **_):
            kernel.launch(cmd[cmd.index("-f") :], dict(env or os.environ), log)
            self.process, self.pid = kernel, kernel.pid
            return self.connection_info

    class Found(EntryPoint):
        def load(self):
            return Provisioner

    factory = KernelProvisionerFactory.instance()
    factory.provisioners["fork"] = Found("fork", "workflow.fork:use", factory.GROUP_NAME)
    factory.default_provisioner_name = "fork"


def use_none() -> None:
    """Have jupyter_client start a process again."""
    from jupyter_client.provisioning import KernelProvisionerFactory

    KernelProvisionerFactory.instance().default_provisioner_name = "local-provisioner"


if __name__ == "__main__":
    place, *rest = sys.argv[1:]
    if place:
        sys.exit(ask(place, rest))
    os.execv(sys.executable, [sys.executable, "-m", "workflow.run", *rest])
