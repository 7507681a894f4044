# sh xtask/checks/torch.sh HOME REQUIREMENTS, in the root of the clone: HOME becomes an environment of Python with PyTorch, the
# libraries beside it and what the file REQUIREMENTS lists, made again where a pin has changed.
set -eu
home=$1
requirements=xtask/peers/requirements
pins="$requirements/torch*.txt $2"
[ -x "$home/bin/python" ] || python3 -m venv "$home"
cat $pins | cmp -s - "$home/installed.txt" && exit
pip="$home/bin/pip install --quiet --disable-pip-version-check --no-deps"
$pip --requirement "$2" --requirement $requirements/torch-libraries.txt
# The build for CPUs where its index can be reached, else the ordinary wheel and as little of CUDA as it needs.
cpu="--index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 15"
$pip $cpu --requirement $requirements/torch.txt || {
    $pip --requirement $requirements/torch.txt
    "$home/bin/python" -c "import torch" 2>&- || $pip --requirement $requirements/torch-shared-objects.txt
}
cat $pins > "$home/installed.txt"
