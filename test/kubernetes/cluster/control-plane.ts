import path from 'node:path';
import { keysOf } from './cluster-keys.js';
import type { ClusterNode } from './cluster-node.js';
import { clusterAddresses, type ClusterPlan, ofFamilies } from './cluster-plan.js';

const etcd = 'http://127.0.0.1:2379';

/** Starts etcd on a node: the API server can start then. */
export function startStore(node: ClusterNode): void {
  node.startDaemon('etcd', [
    'etcd',
    '--data-dir=/var/lib/etcd',
    `--listen-client-urls=${etcd}`,
    `--advertise-client-urls=${etcd}`,
    '--listen-peer-urls=http://127.0.0.1:2380',
    '--unsafe-no-fsync',
  ]);
}

/**
 * Starts the controller manager and the scheduler on a node. The API server must be ready: the controller manager ends
 * when that does not answer it within some seconds, and also while its own rights are not there yet.
 */
export function startManagers(plan: ClusterPlan, node: ClusterNode): void {
  const keys = keysOf(plan);
  const file = (name: string): string => path.join(keys, name);
  const own = ['--leader-elect=false', '--bind-address=127.0.0.1'];
  node.startDaemon('kube-controller-manager', [
    'kube-controller-manager',
    `--kubeconfig=${file('controller-manager.kubeconfig')}`,
    `--service-account-private-key-file=${file('sa.key')}`,
    `--root-ca-file=${file('ca.crt')}`,
    `--cluster-signing-cert-file=${file('ca.crt')}`,
    `--cluster-signing-key-file=${file('ca.key')}`,
    '--use-service-account-credentials',
    '--cert-dir=/run/kube-controller-manager',
    // A node that is unplugged is NotReady soon.
    '--node-monitor-grace-period=16s',
    ...own,
  ]);
  const scheduler = [`--kubeconfig=${file('scheduler.kubeconfig')}`, '--cert-dir=/run/kube-scheduler'];
  node.startDaemon('kube-scheduler', ['kube-scheduler', ...scheduler, ...own]);
}

/** It may have run before: what it knows is in etcd. */
export function startApiServer(plan: ClusterPlan, node: ClusterNode): void {
  const keys = keysOf(plan);
  const file = (name: string): string => path.join(keys, name);
  node.startDaemon('kube-apiserver', [
    'kube-apiserver',
    `--etcd-servers=${etcd}`,
    `--service-cluster-ip-range=${ofFamilies(plan, clusterAddresses.services)}`,
    `--advertise-address=${node.plan.ipv4}`,
    `--bind-address=${node.plan.ipv4}`,
    '--secure-port=6443',
    `--tls-cert-file=${file('apiserver.crt')}`,
    `--tls-private-key-file=${file('apiserver.key')}`,
    `--client-ca-file=${file('ca.crt')}`,
    `--service-account-key-file=${file('sa.pub')}`,
    `--service-account-signing-key-file=${file('sa.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    '--api-audiences=https://kubernetes.default.svc',
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged=true',
    '--kubelet-preferred-address-types=InternalIP',
    `--kubelet-client-certificate=${file('kubelet-client.crt')}`,
    `--kubelet-client-key=${file('kubelet-client.key')}`,
    `--kubelet-certificate-authority=${file('ca.crt')}`,
    '--cert-dir=/run/kube-apiserver',
  ]);
}
