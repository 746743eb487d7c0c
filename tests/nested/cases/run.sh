# SPDX-License-Identifier: ISC
# Exit statuses, messages, streams, arguments and signals of an image on kvm.
export ENGINE=kvm
sh /bin/ending wherry /bin/guest-ending && sh /bin/stopping wherry /bin/guest-stop
