# To be sourced, from bash or zsh, from anywhere: then `python`, `face-mtl` and the messages work in this shell.

if [ -n "${ZSH_VERSION:-}" ]; then
    eval '_face_mtl_root=${(%):-%x}' # bash can't read zsh's way to name this file
else
    _face_mtl_root=${BASH_SOURCE[0]}
fi
_face_mtl_root=$(cd "$(dirname "$_face_mtl_root")/.." && pwd -P)

_face_mtl_list=
# Puts a folder in front of a list of folders, unless it is in it already.
_face_mtl_prepend() {
    eval "_face_mtl_list=\${$1:-}"
    case ":$_face_mtl_list:" in
    *":$2:"*) ;;
    *) export "$1=$2${_face_mtl_list:+:$_face_mtl_list}" ;;
    esac
}

_face_mtl_messages=$(find "$_face_mtl_root/install/face_mtl_msgs" -type d -name face_mtl_msgs \
    -path '*-packages/face_mtl_msgs' 2>/dev/null | head -n 1)
_face_mtl_status=1
if [ ! -e "$_face_mtl_root/.venv/.stamps/run" ] || [ -z "$_face_mtl_messages" ]; then
    echo "face_mtl_ros is not set up yet. Run: bash $_face_mtl_root/tools/setup.sh run" >&2
elif [ ! -d "$_face_mtl_root/.venv/share/rclpy" ] && [ -z "${AMENT_PREFIX_PATH:-}" ]; then
    echo "face_mtl_ros was set up on a ROS 2 that is not sourced here. Run: source /opt/ros/<distro>/setup.bash" >&2
else
    export VIRTUAL_ENV="$_face_mtl_root/.venv"
    _face_mtl_prepend PATH "$VIRTUAL_ENV/bin"
    # Where no ROS 2 is sourced, .venv holds one. Its own libraries are found without help.
    [ -d "$VIRTUAL_ENV/share/rclpy" ] && _face_mtl_prepend AMENT_PREFIX_PATH "$VIRTUAL_ENV"
    _face_mtl_prepend AMENT_PREFIX_PATH "$_face_mtl_root/install/face_mtl_msgs"
    _face_mtl_prepend LD_LIBRARY_PATH "$_face_mtl_root/install/face_mtl_msgs/lib"
    _face_mtl_prepend PYTHONPATH "${_face_mtl_messages%/face_mtl_msgs}"
    # By itself Fast DDS loses most camera images; see the file.
    [ -n "${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ] ||
        export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$_face_mtl_root/config/fastdds.xml}"
    _face_mtl_status=0
fi
unset _face_mtl_root _face_mtl_list _face_mtl_messages
unset -f _face_mtl_prepend
# `return` by itself would leave the name behind.
eval "unset _face_mtl_status; return $_face_mtl_status"
