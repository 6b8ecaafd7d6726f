"""Runs memmon as the pod that contrib/kubernetes describes, in a container of runc, with exactly the rights that the manifest asks for.

    pod.py MANIFESTS RUNC FOLDER MEMMON run --config CONFIG [ARGUMENT...]

MANIFESTS is what `kubectl kustomize` printed. FOLDER is empty, and holds the bundle and runc's state. The image is memmon and its
libraries, and nothing else. The host's paths of the manifest are those of the mount namespace in which this runs. The container
ends with this process, however that ends. Signals for runc are forwarded to memmon.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

manifests, runc, folder, memmon, *arguments = sys.argv[1:]
folder = Path(folder)
run, option, config, *arguments = arguments
assert (run, option) == ("run", "--config")
objects = [thing for thing in yaml.safe_load_all(Path(manifests).read_text()) if thing]
[pod] = [thing["spec"]["template"]["spec"] for thing in objects if thing["kind"] == "DaemonSet"]
[container] = pod["containers"]
security = container["securityContext"]
# Without this file memmon would enforce its defaults on the host of the test.
assert container["args"] == ["run", "--config", "/etc/memmon/config.toml"]
[place] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"]
assert place == "/etc/memmon" and "\n[scope]\nusers = [" in Path(config).read_text()
assert security["seccompProfile"] == {"type": "Unconfined"}, "another profile must be given to runc"


def quantity(text):
    """Kubernetes' numbers: 100m, 100Mi."""
    number, unit = re.fullmatch(r"(\d+)(m|Mi)?", text).groups()
    return int(number) * {"m": 0.001, "Mi": 1 << 20, None: 1}[unit]


image = folder / "image"
libraries = re.findall(r"(?:=> )?(/\S+) \(0x", subprocess.check_output(["ldd", memmon], text=True))
for source, target in [(memmon, container["command"][0]), *((library, library) for library in libraries)]:
    place = image / target.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, place)
(image / "etc").mkdir(exist_ok=True)

mounts = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]
volumes = {volume["name"]: volume for volume in pod["volumes"]}
configuration = folder / "configuration"
configuration.mkdir()
shutil.copy(config, configuration / "config.toml")
for mount in container["volumeMounts"]:
    volume = volumes[mount["name"]]
    access = "ro" if mount.get("readOnly") else "rw"
    bind = {"type": "bind", "options": ["rbind", access]}
    if "hostPath" in volume:
        how = bind | {"source": volume["hostPath"]["path"]}
    elif "configMap" in volume:
        how = bind | {"source": str(configuration)}
    else:
        size = int(quantity(volume["emptyDir"]["sizeLimit"]))
        how = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", f"size={size}", access]}
    mounts.append({"destination": mount["mountPath"], **how})

named = [f"CAP_{name}" for name in security["capabilities"]["add"]]
assert security["capabilities"]["drop"] == ["ALL"] and pod["hostPID"] and not security["privileged"]
limits = container["resources"]["limits"]
spec = {
    "ociVersion": "1.0.0",
    "process": {
        "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
        "args": [*container["command"], *container["args"], *arguments],
        "env": ["PATH=/usr/sbin:/usr/bin"],
        "cwd": "/",
        "capabilities": {kind: named for kind in ["bounding", "effective", "permitted"]},
        "noNewPrivileges": not security["allowPrivilegeEscalation"],
    },
    "root": {"path": str(image), "readonly": security["readOnlyRootFilesystem"]},
    "mounts": mounts,
    "linux": {
        "cgroupsPath": f"/memmon-test-pod-{os.getpid()}",
        "namespaces": [{"type": kind} for kind in ["mount", "ipc", "uts", "network", "cgroup"]],
        "resources": {"memory": {"limit": int(quantity(limits["memory"]))}},
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}
(folder / "config.json").write_text(json.dumps(spec))

name = f"memmon-test-{os.getpid()}"
command = [runc, "--root", str(folder / "state")]
ends, holds = os.pipe()
if os.fork() == 0:
    os.close(holds)
    os.setsid()
    # runc has the other end.
    os.read(ends, 1)
    subprocess.run([*command, "delete", "--force", name], stderr=subprocess.DEVNULL)
    os._exit(0)
os.set_inheritable(holds, True)
os.execv(runc, [*command, "run", "--bundle", str(folder), name])
