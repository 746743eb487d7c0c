# SPDX-License-Identifier: ISC
"""Source packages of the distribution, with a private apt configuration: works for root and for ordinary
users, and leaves the machine's own apt alone. apt checks the signatures."""
import os
import re
import shutil
import subprocess


def source_lists():
    """deb-src lines that mirror the machine's own binary ones."""
    lines = []
    folder = '/etc/apt/sources.list.d'
    files = ['/etc/apt/sources.list'] + sorted(
        os.path.join(folder, f) for f in (os.listdir(folder) if os.path.isdir(folder) else []))
    for path in files:
        if not os.path.isfile(path):
            continue
        text = open(path, errors='replace').read()
        if path.endswith('.sources'):
            lines += from_deb822(text)
        elif path.endswith('.list'):
            for line in text.splitlines():
                m = re.match(r'\s*deb(?:-src)?\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*\S)', line)
                if m:
                    options = re.sub(r'arch=\S+\s*', '', m[1] or '')
                    lines.append(f'deb-src {options}{m[2]} {m[3]} {m[4]}')
    # Ubuntu keeps musl in universe; third-party archives have nothing for us.
    own = [l for l in lines if re.search(r'debian|ubuntu', l) and not re.search(r'ppa|microsoft|docker', l)]
    return sorted(set(own or lines))


def from_deb822(text):
    for stanza in re.split(r'\n\s*\n', text):
        fields = {}
        for line in stanza.splitlines():
            if line.startswith('#'):
                continue
            m = re.match(r'([\w-]+):\s*(.*)', line)
            if m:
                name = m[1].lower()
                fields[name] = m[2]
            elif line[:1].isspace() and fields:
                fields[name] += ' ' + line.strip()
        if fields.get('enabled', 'yes').lower() == 'no' or 'deb' not in fields.get('types', ''):
            continue
        key = fields.get('signed-by', '')
        option = f'[signed-by={key}] ' if key.startswith('/') else ''
        for uri in fields.get('uris', '').split():
            for suite in fields.get('suites', '').split():
                yield f'deb-src {option}{uri} {suite} {fields.get("components", "")}'.rstrip()


class AptError(Exception):
    pass


class Apt:
    """apt with everything it keeps below `folder`, which may be used again."""

    def __init__(self, folder):
        apt = shutil.which('apt-get')
        if not apt:
            raise AptError('no apt-get here')
        for name in ('lists/partial', 'cache/archives/partial', 'log'):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        with open(os.path.join(folder, 'sources.list'), 'w') as f:
            f.write('\n'.join(source_lists()) + '\n')
        open(os.path.join(folder, 'status'), 'w').close()
        self.command = [apt, '-q']
        for option in (f'Dir::Etc::SourceList={folder}/sources.list', 'Dir::Etc::SourceParts=/dev/null',
                       f'Dir::State::Lists={folder}/lists', f'Dir::State::status={folder}/status',
                       f'Dir::Cache={folder}/cache', f'Dir::Log={folder}/log', 'APT::Sandbox::User=',
                       'Acquire::Languages=none', 'Acquire::Retries=1'):
            self.command += ['-o', option]

    def call(self, words, folder):
        p = subprocess.run(self.command + words, cwd=folder, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL)
        return p.returncode, (p.stderr.strip().splitlines() or ['no message'])[-1]

    def versions(self, package):
        """Newest first. A mirror may list what it does not have, so callers try the older ones too."""
        p = subprocess.run([self.command[0].replace('apt-get', 'apt-cache'), *self.command[1:], 'madison', package],
                           capture_output=True, text=True, stdin=subprocess.DEVNULL)
        found = []
        for line in p.stdout.splitlines():
            fields = [f.strip() for f in line.split('|')]
            if len(fields) == 3 and fields[2].endswith('Sources') and fields[1] not in found:
                found.append(fields[1])
        return found

    def source(self, package, folder, options=()):
        """Brings the files of a source package into `folder`. AptError says why it did not come."""
        why = 'no such source package'
        for fresh in (False, True):
            if fresh:
                self.call(['update'], folder)
            for version in self.versions(package)[:4]:
                code, why = self.call(['source', '--download-only', *options, f'{package}={version}'], folder)
                if not code:
                    return
        raise AptError(f'apt-get source {package}: {why}')
